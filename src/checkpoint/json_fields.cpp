#include "checkpoint/json_fields.h"

#include <limits>

#include "base/error.h"
#include "checkpoint/text_check.h"

namespace headrace {
namespace {

using nlohmann::json;

constexpr int kMaxDepth = 64;

}  // namespace

json parse_json_object(std::string_view text, std::string_view where) {
  const auto limit_depth = [&](int depth, json::parse_event_t, const json&) {
    if (depth > kMaxDepth) {
      fail(ErrorCode::kCorrupt, "[json] {} is nested deeper than {} levels", where, kMaxDepth);
    }
    return true;
  };
  json root = json::parse(text, limit_depth, /*allow_exceptions=*/false);
  if (!root.is_object()) fail(ErrorCode::kCorrupt, "[json] {} is not a JSON object", where);
  return root;
}

const json* JsonFields::find(const char* key) const {
  const auto found = object_.find(key);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

int64_t JsonFields::integer(const char* key) const {
  const json& value = require(key);
  if (!value.is_number_integer()) wrong(key, "an integer");
  if (value.is_number_unsigned() &&
      value.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    wrong(key, "a smaller integer");
  }
  return value.get<int64_t>();
}

int64_t JsonFields::integer(const char* key, int64_t otherwise) const {
  return has(key) ? integer(key) : otherwise;
}

double JsonFields::number(const char* key) const {
  const json& value = require(key);
  if (!value.is_number()) wrong(key, "a number");
  return value.get<double>();
}

double JsonFields::number(const char* key, double otherwise) const {
  return has(key) ? number(key) : otherwise;
}

bool JsonFields::boolean(const char* key, bool otherwise) const {
  const json* value = find(key);
  if (value == nullptr) return otherwise;
  if (!value->is_boolean()) wrong(key, "true or false");
  return value->get<bool>();
}

std::string JsonFields::text(const char* key) const {
  const json& value = require(key);
  if (!value.is_string()) wrong(key, "a string");
  return value.get<std::string>();
}

std::string JsonFields::text(const char* key, const char* otherwise) const {
  return has(key) ? text(key) : otherwise;
}

JsonFields JsonFields::object(const char* key) const {
  const json& value = require(key);
  if (!value.is_object()) wrong(key, "an object");
  return {value, fmt::format("{}: {}", where_, key)};
}

void JsonFields::reject(const char* key, std::string_view works) const {
  const json* value = find(key);
  const std::string text =
      value == nullptr ? "missing" : value->dump(-1, ' ', true, json::error_handler_t::replace);
  fail(ErrorCode::kUnsupported, "[config] {}: '{}' is {}: {}", where_, key, printable(text), works);
}

const json& JsonFields::require(const char* key) const {
  const json* value = find(key);
  if (value == nullptr) fail(ErrorCode::kCorrupt, "[config] {} has no '{}'", where_, key);
  return *value;
}

void JsonFields::wrong(const char* key, const char* expected) const {
  fail(ErrorCode::kCorrupt, "[config] {}: '{}' should be {}", where_, key, expected);
}

}  // namespace headrace
