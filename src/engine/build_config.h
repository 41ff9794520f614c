#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "checkpoint/model_config.h"

namespace headrace {

class Log;

/// Switches of upstream's plugins. They choose nothing here, but an engine's config.json carries
/// them.
struct PluginConfig {
  std::string gemm_plugin = "disable";  // auto, float16, float32, bfloat16, fp8 or disable
  std::string gpt_attention_plugin = "auto";
  bool context_fmha = true;
  bool paged_kv_cache = true;
  bool remove_input_padding = true;
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
  /// Largest pass, in token rows, that every backend computes in the canonical order; 0: all
  /// passes. The CPU backend has no other order.
  int64_t canonical_rows = 8;
  PluginConfig plugins = {};
};

/// Reads the "build_config" object. Missing keys keep their defaults, unknown ones are ignored;
/// mistyped or absurd values are Error{kCorrupt} naming `where` and the key.
BuildConfig parse_build_config(std::string_view json_text, std::string_view where);

/// The text of the "build_config" object, with upstream's key names.
std::string build_config_to_json(const BuildConfig& config);

/// "all" or a number above 0, as --canonical_rows takes it. Error{kInvalidArgument} otherwise.
int64_t parse_canonical_rows(std::string_view text);

/// Settles `config` for `model`: fills in max_seq_len, clips max_input_len to it with a warning,
/// and warns about a max_seq_len beyond the model's training. Error{kInvalidArgument} naming the
/// flag for values below 1 or absurdly large, and for weight streaming with a gemm plugin.
BuildConfig resolve_build_config(const BuildConfig& config, const ModelConfig& model, Log& log);

}  // namespace headrace
