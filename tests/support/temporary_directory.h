#pragma once

#include <string>
#include <string_view>

namespace headrace::testing {

/// A fresh folder under the system's place for temporary files, removed with everything in it when
/// the object goes. Confined to one thread.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  const std::string& path() const { return path_; }
  /// Path of `name` inside.
  std::string operator/(std::string_view name) const;

 private:
  std::string path_;
};

}  // namespace headrace::testing
