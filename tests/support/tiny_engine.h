#pragma once

#include <cstdint>
#include <string>

#include "checkpoint/model_config.h"
#include "engine/synthetic.h"

namespace headrace::testing {

/// A small random Llama and the options of its engine. The default's odd shapes are deliberate:
/// rows that need padding, tiles that end inside pages, a last tile that is not full.
struct TinyModel {
  int64_t vocab_size = 1003;
  int64_t hidden_size = 72;
  int64_t num_hidden_layers = 2;
  int64_t num_attention_heads = 4;
  int64_t num_key_value_heads = 2;
  int64_t head_size = 20;
  int64_t intermediate_size = 100;
  int64_t max_position_embeddings = 256;
  DType dtype = DType::kFloat16;
  RopeScaling rotary_scaling = {};
  bool qkv_bias = false;
  bool dense_bias = false;
  bool mlp_bias = false;
  bool tie_word_embeddings = false;
  uint64_t seed = 1;

  uint64_t tile_bytes = 16384;
  std::string tile_codec = "none";
  bool weight_streaming = true;
  int64_t max_batch_size = 8;
  int64_t max_beam_width = 4;
  int64_t max_seq_len = 0;  // 0: max_position_embeddings
  int64_t tokens_per_block = 16;
  int64_t canonical_rows = 0;  // 0: all
};

/// The configuration that belongs to the shape.
ModelConfig tiny_config(const TinyModel& shape);

/// The same shape and options, with weights that are made up.
SyntheticSpec tiny_spec(const TinyModel& shape);

/// Writes a checkpoint with random weights into `directory` (made if need be); returns `directory`.
std::string make_tiny_checkpoint(const TinyModel& shape, const std::string& directory);

/// Writes a random checkpoint and builds it; returns the engine's folder, `directory`. The
/// checkpoint stays in `directory`/checkpoint.
std::string make_tiny_engine(const TinyModel& shape, const std::string& directory);

}  // namespace headrace::testing
