#include "tests/support/temporary_directory.h"

#include <cerrno>
#include <filesystem>

#include <stdlib.h>

#include "base/error.h"
#include "base/file.h"

namespace headrace::testing {

TemporaryDirectory::TemporaryDirectory()
    : path_(std::filesystem::temp_directory_path() / "headrace-test-XXXXXX") {
  if (::mkdtemp(path_.data()) == nullptr) fail_io("test", "create folder", path_, errno);
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;  // a destructor has nobody to tell
  std::filesystem::remove_all(path_, ignored);
}

std::string TemporaryDirectory::operator/(std::string_view name) const {
  return join_path(path_, name);
}

}  // namespace headrace::testing
