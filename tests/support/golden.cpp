#include "tests/support/golden.h"

#include "base/file.h"

namespace headrace::testing {

std::string golden_path(std::string_view name) {
  return join_path(HEADRACE_TESTS_DIR "/golden", name);
}

std::string read_file(const std::string& path) { return read_text_file(posix_file_system(), path); }

}  // namespace headrace::testing
