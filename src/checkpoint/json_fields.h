#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

namespace headrace {

/// Parses a JSON object that may come from anywhere. Error{kCorrupt} naming `where` for anything
/// else and for nesting deeper than 64.
nlohmann::json parse_json_object(std::string_view text, std::string_view where);

/// Reads typed members of one JSON object. A member that is null counts as absent. Errors are
/// Error{kCorrupt}, naming the file and the key. Borrows the object.
class JsonFields {
 public:
  JsonFields(const nlohmann::json& object, std::string where)
      : object_(object), where_(std::move(where)) {}

  const std::string& where() const { return where_; }
  const nlohmann::json& object() const { return object_; }

  /// The member, or null if it is absent.
  const nlohmann::json* find(const char* key) const;
  bool has(const char* key) const { return find(key) != nullptr; }

  int64_t integer(const char* key) const;
  int64_t integer(const char* key, int64_t otherwise) const;
  double number(const char* key) const;
  double number(const char* key, double otherwise) const;
  bool boolean(const char* key, bool otherwise) const;
  std::string text(const char* key) const;
  std::string text(const char* key, const char* otherwise) const;
  JsonFields object(const char* key) const;

  /// Throws Error{kUnsupported}: "[config] where: 'key' is value: `works`".
  [[noreturn]] void reject(const char* key, std::string_view works) const;

 private:
  const nlohmann::json& require(const char* key) const;
  [[noreturn]] void wrong(const char* key, const char* expected) const;

  const nlohmann::json& object_;
  const std::string where_;
};

}  // namespace headrace
