#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/context.h"

namespace headrace::app {

/// What there is to say about a file or folder, for people and for programs.
struct InspectReport {
  std::string text;
  nlohmann::ordered_json json;
  std::vector<std::string> damaged;  // what --verify found, by name
};

InspectReport inspect_engine(const std::string& directory, bool verify, Context& context);
InspectReport inspect_checkpoint(const std::string& directory, Context& context);
/// `path` is a safetensors file, or a folder that holds some.
InspectReport inspect_safetensors(const std::string& path, Context& context);
InspectReport inspect_gguf(const std::string& path, Context& context);

/// One line that describes a model, from its configuration as JSON.
std::string describe_model(const nlohmann::ordered_json& config);

}  // namespace headrace::app
