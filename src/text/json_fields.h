#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "base/file.h"

namespace headrace::text {

/// Reads typed fields of one JSON file whose content is not trusted. Every mismatch is an
/// Error{kCorrupt} that names file and field. Internal to this room.
class JsonFields {
 public:
  using Json = nlohmann::json;

  /// `file` is for messages.
  explicit JsonFields(std::string file) : file_(std::move(file)) {}
  const std::string& file() const { return file_; }

  [[noreturn]] void corrupt(std::string_view what) const;

  /// The member, or null if it is absent or JSON null. An `object` that is no object is an error.
  const Json* find(const Json& object, const char* key) const;
  const Json& array(const Json& object, const char* key) const;
  std::string text(const Json& object, const char* key) const;
  std::string text_or(const Json& object, const char* key, const std::string& fallback) const;
  bool flag_or(const Json& object, const char* key, bool fallback) const;
  std::optional<int64_t> integer(const Json& object, const char* key) const;
  /// The member "type".
  std::string type(const Json& object) const { return text(object, "type"); }

  const std::string& as_text(const Json& value, const char* what) const;
  int64_t as_integer(const Json& value, const char* what) const;

 private:
  std::string file_;
};

/// Parses a small JSON file; Error{kCorrupt} where it is none, or not an object.
nlohmann::json read_json_object(FileSystem& fs, const std::string& path, uint64_t limit_bytes);

}  // namespace headrace::text
