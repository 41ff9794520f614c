#pragma once

#include <string>
#include <string_view>

namespace headrace::testing {

/// Path of a file or folder under tests/golden/ in the source tree.
std::string golden_path(std::string_view name);

/// Content of a file.
std::string read_file(const std::string& path);

}  // namespace headrace::testing
