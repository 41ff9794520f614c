#include "text/json_fields.h"

#include "base/error.h"
#include "base/file.h"

namespace headrace::text {

void JsonFields::corrupt(std::string_view what) const {
  fail(ErrorCode::kCorrupt, "[tokenizer] {}: {}", file_, what);
}

const JsonFields::Json* JsonFields::find(const Json& object, const char* key) const {
  if (!object.is_object()) corrupt(fmt::format("expected an object with '{}'", key));
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

const JsonFields::Json& JsonFields::array(const Json& object, const char* key) const {
  const Json* value = find(object, key);
  if (value == nullptr || !value->is_array()) corrupt(fmt::format("'{}' is not a list", key));
  return *value;
}

std::string JsonFields::text(const Json& object, const char* key) const {
  const Json* value = find(object, key);
  if (value == nullptr) corrupt(fmt::format("'{}' is missing", key));
  return as_text(*value, key);
}

std::string JsonFields::text_or(const Json& object, const char* key,
                                const std::string& fallback) const {
  const Json* value = find(object, key);
  return value == nullptr ? fallback : as_text(*value, key);
}

bool JsonFields::flag_or(const Json& object, const char* key, bool fallback) const {
  const Json* value = find(object, key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) corrupt(fmt::format("'{}' is neither true nor false", key));
  return value->get<bool>();
}

std::optional<int64_t> JsonFields::integer(const Json& object, const char* key) const {
  const Json* value = find(object, key);
  return value == nullptr ? std::nullopt : std::optional<int64_t>(as_integer(*value, key));
}

const std::string& JsonFields::as_text(const Json& value, const char* what) const {
  if (!value.is_string()) corrupt(fmt::format("'{}' is not a text", what));
  return value.get_ref<const std::string&>();
}

int64_t JsonFields::as_integer(const Json& value, const char* what) const {
  const bool fits = value.is_number_integer() &&
                    !(value.is_number_unsigned() && value.get<uint64_t>() > INT64_MAX);
  if (!fits) corrupt(fmt::format("'{}' is not an integer", what));
  return value.get<int64_t>();
}

nlohmann::json read_json_object(FileSystem& fs, const std::string& path, uint64_t limit_bytes) {
  const std::string content = read_text_file(fs, path, limit_bytes);
  nlohmann::json parsed = nlohmann::json::parse(content, nullptr, false);
  if (!parsed.is_object()) fail(ErrorCode::kCorrupt, "[tokenizer] {}: not a JSON object", path);
  return parsed;
}

}  // namespace headrace::text
