#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "checkpoint/model_config.h"
#include "engine/build_config.h"

namespace headrace::app {

/// A model's shape and the limits that its benchmark engine is built with.
struct BenchPreset {
  std::string name;
  ModelConfig model;
  BuildConfig build;
};

/// The preset of this name. Error{kUnsupported} for families that are not there yet, and for names
/// that nobody knows, listing those that work.
BenchPreset find_bench_preset(std::string_view name, DType dtype);

/// "llama_7b, llama_13b, ...".
std::string bench_preset_names();

}  // namespace headrace::app
