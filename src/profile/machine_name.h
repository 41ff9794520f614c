#pragma once

#include <string>

#include "engine/engine_reader.h"
#include "kernels/backend.h"

namespace headrace {

/// What a profile's figures depend on, in words: "AMD EPYC 9R14; cpu avx512, 2 threads; float16;
/// disk 259:1".
std::string machine_name(const Engine& engine, const Backend& backend);

/// Where the profile of a machine is cached: a file under $XDG_CACHE_HOME/headrace or
/// ~/.cache/headrace. Empty if neither variable names a folder.
std::string profile_cache_path(const std::string& machine_name);

}  // namespace headrace
