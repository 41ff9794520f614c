#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace headrace {

/// Switches of upstream's plugins. They choose nothing here, but an engine's config.json carries
/// them.
struct PluginConfig {
  std::string gemm_plugin = "disable";  // auto, float16, float32, bfloat16, fp8 or disable
  std::string gpt_attention_plugin = "auto";
  bool context_fmha = true;
  bool paged_kv_cache = true;
  bool remove_input_padding = true;

  friend bool operator==(const PluginConfig&, const PluginConfig&) = default;
};

/// Limits and choices that an engine is built with ("build_config" of its config.json).
struct BuildConfig {
  int64_t max_batch_size = 256;   // sequences in a pass
  int64_t max_input_len = 1024;   // tokens of a prompt
  int64_t max_seq_len = 0;        // prompt and output; 0: the model's (never 0 in an engine)
  int64_t max_num_tokens = 8192;  // token rows in a pass
  int64_t max_beam_width = 1;
  int64_t tokens_per_block = 64;            // positions in a block of the KV cache
  bool weight_streaming = false;            // weights may be streamed at run time
  bool strongly_typed = false;              // accepted; every engine here is
  bool gather_context_logits = false;       // accepted; logits can be had from every engine
  bool gather_generation_logits = false;    // accepted
  uint64_t tile_bytes = uint64_t{1} << 20;  // a tile's size, nearly
  /// How tiles are coded, without loss: auto (whichever is smallest), none, e3 or e4.
  std::string tile_codec = "auto";
  /// Largest pass, in token rows, that every backend computes in the canonical order; 0: all
  /// passes. The CPU backend has no other order.
  int64_t canonical_rows = 8;
  PluginConfig plugins = {};

  /// Of a JSON object with these names (plugins under "plugin_config"), as the "build_config" of
  /// an engine's config.json has them. Missing keys keep their defaults, unknown ones are ignored.
  /// Error{kCorrupt} for mistyped or absurd values, naming the key.
  static BuildConfig from_json(std::string_view json_text);
  /// The same of a file: such an object, or an engine's config.json, which has one.
  static BuildConfig from_json_file(const std::string& path);
  /// Takes over the keys that the object has, and keeps the rest; unlike from_json() it refuses
  /// keys that it does not know with Error{kInvalidArgument}. Nothing changes if it throws.
  void update(std::string_view json_text);
  std::string to_json() const;

  friend bool operator==(const BuildConfig&, const BuildConfig&) = default;
};

}  // namespace headrace
