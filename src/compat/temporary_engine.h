#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace headrace::compat {

/// An engine folder made of parts in memory, below the system's place for temporary files; it goes
/// with the object. Confined to one thread.
class TemporaryEngine {
 public:
  /// Error{kIo} where it cannot be written.
  TemporaryEngine(std::basic_string_view<uint8_t> weights, const std::string& config_json);
  ~TemporaryEngine();
  TemporaryEngine(const TemporaryEngine&) = delete;
  TemporaryEngine& operator=(const TemporaryEngine&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  void write(const char* name, std::string_view content);

  std::filesystem::path path_;
};

}  // namespace headrace::compat
