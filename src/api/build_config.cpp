#include "headrace/build_config.h"

#include <cstddef>
#include <span>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "engine/build_config.h"

namespace headrace {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kPlugins = "plugin_config";
constexpr const char* kTokensPerBlock = "tokens_per_block";
constexpr uint64_t kMaxFileBytes = uint64_t{16} << 20;

std::string read_text(const std::string& path) {
  const auto file = posix_file_system().open(path);
  if (file->size() > kMaxFileBytes) {
    fail(ErrorCode::kCorrupt, "[build] {}: {} bytes are no build configuration", path,
         file->size());
  }
  std::string text(file->size(), '\0');
  file->read(0, std::as_writable_bytes(std::span(text)));
  return text;
}

void check_keys(const Json& changes, const Json& known) {
  for (const auto& [key, value] : changes.items()) {
    if (!known.contains(key)) {
      fail(ErrorCode::kInvalidArgument, "[build] '{}' is no field of BuildConfig", key);
    }
    if (key == kPlugins && value.is_object()) check_keys(value, known[key]);
  }
}

}  // namespace

BuildConfig BuildConfig::from_json(std::string_view json_text) {
  return parse_build_config(json_text, "JSON");
}

BuildConfig BuildConfig::from_json_file(const std::string& path) {
  const std::string text = read_text(path);
  const Json object = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object() || !object.contains("build_config")) {
    return parse_build_config(text, path);
  }
  return parse_build_config(object["build_config"].dump(), path);
}

void BuildConfig::update(std::string_view json_text) {
  const Json changes = Json::parse(json_text, nullptr, /*allow_exceptions=*/false);
  if (!changes.is_object()) {
    fail(ErrorCode::kInvalidArgument, "[build] update wants a JSON object of fields to change");
  }
  Json all = Json::parse(to_json());
  all.emplace("max_seq_len", nullptr);  // 0 is not written
  check_keys(changes, all);
  all[kPlugins].erase(kTokensPerBlock);  // a copy of the field, which would win
  all.merge_patch(changes);
  *this = parse_build_config(all.dump(), "update");
}

std::string BuildConfig::to_json() const { return build_config_to_json(*this); }

}  // namespace headrace
