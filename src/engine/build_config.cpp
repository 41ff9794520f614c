#include "engine/build_config.h"

#include <algorithm>
#include <array>
#include <charconv>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/log.h"
#include "engine/tile_coding.h"

namespace headrace {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kMaxCount = int64_t{1} << 30;  // also the largest batch times the widest beam
constexpr int64_t kMaxBatch = int64_t{1} << 20;
constexpr int64_t kMaxBeams = 1024;
constexpr int64_t kMaxTokensPerBlock = 65536;
constexpr uint64_t kMinTileBytes = 4096;
constexpr uint64_t kMaxTileBytes = uint64_t{64} << 20;
constexpr std::array<std::string_view, 6> kGemmPlugins = {"auto",     "float16", "float32",
                                                          "bfloat16", "fp8",     "disable"};

/// A whole number of the configuration, under its JSON key, which is also its flag.
struct NumberField {
  const char* key;
  int64_t BuildConfig::* member;
  int64_t maximum;
};
constexpr std::array kNumbers = {
    NumberField{"max_batch_size", &BuildConfig::max_batch_size, kMaxBatch},
    NumberField{"max_input_len", &BuildConfig::max_input_len, kMaxCount},
    NumberField{"max_seq_len", &BuildConfig::max_seq_len, kMaxCount},
    NumberField{"max_num_tokens", &BuildConfig::max_num_tokens, kMaxCount},
    NumberField{"max_beam_width", &BuildConfig::max_beam_width, kMaxBeams},
    NumberField{"tokens_per_block", &BuildConfig::tokens_per_block, kMaxTokensPerBlock},
};

struct BoolField {
  const char* key;
  bool BuildConfig::* member;
};
constexpr std::array kBools = {
    BoolField{"weight_streaming", &BuildConfig::weight_streaming},
    BoolField{"strongly_typed", &BuildConfig::strongly_typed},
    BoolField{"gather_context_logits", &BuildConfig::gather_context_logits},
    BoolField{"gather_generation_logits", &BuildConfig::gather_generation_logits},
};

struct PluginBoolField {
  const char* key;
  bool PluginConfig::* member;
};
constexpr std::array kPluginBools = {
    PluginBoolField{"context_fmha", &PluginConfig::context_fmha},
    PluginBoolField{"paged_kv_cache", &PluginConfig::paged_kv_cache},
    PluginBoolField{"remove_input_padding", &PluginConfig::remove_input_padding},
};

/// Reads typed members of one JSON object; absent or null ones leave the default.
class ObjectReader {
 public:
  ObjectReader(const Json& object, std::string_view where) : object_(object), where_(where) {}

  void number(const char* key, int64_t& value, int64_t maximum) const {
    const Json* found = find(key);
    if (found == nullptr) return;
    const bool small = found->is_number_unsigned() && found->get<uint64_t>() >= 1 &&
                       found->get<uint64_t>() <= static_cast<uint64_t>(maximum);
    if (!small) reject(key, fmt::format("a whole number from 1 to {}", maximum));
    value = found->get<int64_t>();
  }
  void boolean(const char* key, bool& value) const {
    const Json* found = find(key);
    if (found == nullptr) return;
    if (!found->is_boolean()) reject(key, "true or false");
    value = found->get<bool>();
  }
  void text(const char* key, std::string& value) const {
    const Json* found = find(key);
    if (found == nullptr) return;
    if (!found->is_string()) reject(key, "a string");
    value = found->get<std::string>();
  }
  const Json* find(const char* key) const {
    const auto found = object_.find(key);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }
  [[noreturn]] void reject(const char* key, std::string_view wanted) const {
    fail(ErrorCode::kCorrupt, "[engine] {}: build_config's '{}' is not {}", where_, key, wanted);
  }

 private:
  const Json& object_;
  std::string_view where_;
};

void read_plugins(const ObjectReader& in, std::string_view where, BuildConfig& config) {
  const Json* object = in.find("plugin_config");
  if (object == nullptr) return;
  if (!object->is_object()) in.reject("plugin_config", "an object");
  const ObjectReader plugins(*object, where);
  plugins.text("gemm_plugin", config.plugins.gemm_plugin);
  plugins.text("gpt_attention_plugin", config.plugins.gpt_attention_plugin);
  for (const PluginBoolField& field : kPluginBools) {
    plugins.boolean(field.key, config.plugins.*field.member);
  }
  plugins.number("tokens_per_block", config.tokens_per_block, kMaxTokensPerBlock);
}

void check_values(const BuildConfig& config) {
  for (const NumberField& field : kNumbers) {
    const int64_t value = config.*field.member;
    if (value < 1 || value > field.maximum) {
      fail(ErrorCode::kInvalidArgument, "[build] --{} {}: use a whole number from 1 to {}",
           field.key, value, field.maximum);
    }
  }
  if (config.tile_bytes < kMinTileBytes || config.tile_bytes > kMaxTileBytes) {
    fail(ErrorCode::kInvalidArgument, "[build] --tile_bytes {}: use {} (4K) to {} (64M)",
         config.tile_bytes, kMinTileBytes, kMaxTileBytes);
  }
  allowed_codecs(config.tile_codec, DType::kBFloat16);  // which has all of them
  if (std::ranges::find(kGemmPlugins, config.plugins.gemm_plugin) == kGemmPlugins.end()) {
    fail(ErrorCode::kInvalidArgument, "[build] --gemm_plugin {}: use {}",
         config.plugins.gemm_plugin, fmt::join(kGemmPlugins, ", "));
  }
  if (config.weight_streaming && config.plugins.gemm_plugin != "disable") {
    fail(ErrorCode::kInvalidArgument,
         "[build] --weight_streaming cannot stream weights that --gemm_plugin {} would own: use "
         "--gemm_plugin disable",
         config.plugins.gemm_plugin);
  }
}

}  // namespace

BuildConfig parse_build_config(std::string_view json_text, std::string_view where) {
  const Json object = Json::parse(json_text, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object())
    fail(ErrorCode::kCorrupt, "[engine] {}: build_config is no object", where);
  const ObjectReader in(object, where);
  BuildConfig config;
  for (const NumberField& field : kNumbers)
    in.number(field.key, config.*field.member, field.maximum);
  for (const BoolField& field : kBools) in.boolean(field.key, config.*field.member);
  int64_t tile_bytes = static_cast<int64_t>(config.tile_bytes);
  in.number("tile_bytes", tile_bytes, static_cast<int64_t>(kMaxTileBytes));
  config.tile_bytes = static_cast<uint64_t>(tile_bytes);
  in.text("tile_codec", config.tile_codec);
  if (const Json* rows = in.find("canonical_rows"); rows != nullptr && *rows == "all") {
    config.canonical_rows = 0;
  } else {
    in.number("canonical_rows", config.canonical_rows, kMaxCount);
  }
  read_plugins(in, where, config);
  return config;
}

std::string build_config_to_json(const BuildConfig& config) {
  Json object;
  for (const NumberField& field : kNumbers) {
    if (config.*field.member != 0) object[field.key] = config.*field.member;
  }
  for (const BoolField& field : kBools) object[field.key] = config.*field.member;
  object["tile_bytes"] = config.tile_bytes;
  object["tile_codec"] = config.tile_codec;
  if (config.canonical_rows == 0) {
    object["canonical_rows"] = "all";
  } else {
    object["canonical_rows"] = config.canonical_rows;
  }
  Json plugins;
  plugins["gemm_plugin"] = config.plugins.gemm_plugin;
  plugins["gpt_attention_plugin"] = config.plugins.gpt_attention_plugin;
  for (const PluginBoolField& field : kPluginBools) {
    plugins[field.key] = config.plugins.*field.member;
  }
  plugins["tokens_per_block"] = config.tokens_per_block;
  object["plugin_config"] = std::move(plugins);
  return object.dump(2);
}

int64_t parse_canonical_rows(std::string_view text) {
  if (text == "all") return 0;
  int64_t rows = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), rows);
  if (error != std::errc() || end != text.data() + text.size() || rows < 1 || rows > kMaxCount) {
    fail(ErrorCode::kInvalidArgument,
         "[build] --canonical_rows {}: use 'all' or a whole number from 1", text);
  }
  return rows;
}

BuildConfig resolve_build_config(const BuildConfig& config, const ModelConfig& model, Log& log) {
  BuildConfig resolved = config;
  if (resolved.max_seq_len == 0) resolved.max_seq_len = model.max_position_embeddings;
  check_values(resolved);
  if (resolved.plugins.gemm_plugin != "disable") {
    log.warning("--gemm_plugin {}: accepted, has no meaning here", resolved.plugins.gemm_plugin);
  }
  if (resolved.max_seq_len > model.max_position_embeddings) {
    log.warning(
        "--max_seq_len {} is beyond the {} positions that the model was made for: its answers may "
        "degrade there",
        resolved.max_seq_len, model.max_position_embeddings);
  }
  if (resolved.max_input_len > resolved.max_seq_len) {
    log.warning("--max_input_len {} is larger than max_seq_len: clipped to {}",
                resolved.max_input_len, resolved.max_seq_len);
    resolved.max_input_len = resolved.max_seq_len;
  }
  const int64_t least = resolved.max_batch_size * resolved.max_beam_width;
  if (resolved.max_num_tokens < least) {
    log.warning("--max_num_tokens {} is below max_batch_size x max_beam_width: raised to {}",
                resolved.max_num_tokens, least);
    resolved.max_num_tokens = least;
  }
  return resolved;
}

}  // namespace headrace
