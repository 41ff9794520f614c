#include "tests/support/tiny_engine.h"

#include <cmath>

#include "base/file.h"
#include "engine/builder.h"
#include "engine/layout.h"
#include "tests/support/safetensors_file.h"
#include "tests/support/test_context.h"

namespace headrace::testing {
namespace {

NamedTensor random_tensor(const TensorSpec& spec, DType dtype, uint64_t seed) {
  const bool is_norm = spec.role == Role::kInputNorm || spec.role == Role::kPostNorm ||
                       spec.role == Role::kFinalNorm;
  const int64_t columns = spec.k == 0 ? 1 : spec.k;
  const float scale = spec.k == 0 ? 0.25f : 1.5f / std::sqrt(static_cast<float>(spec.k));
  std::vector<float> values = random_values(seed, spec.rows * columns, scale);
  if (is_norm) {
    for (float& value : values) value += 1.0f;
  }
  NamedTensor tensor;
  tensor.name = checkpoint_name(spec.layer, spec.role);
  tensor.dtype = dtype;
  tensor.shape = {spec.rows};
  if (spec.k != 0) tensor.shape.push_back(spec.k);
  tensor.bytes = to_bytes(values, dtype);
  return tensor;
}

BuildConfig tiny_build(const TinyModel& shape) {
  BuildConfig build;
  build.max_batch_size = shape.max_batch_size;
  build.max_beam_width = shape.max_beam_width;
  build.max_input_len = shape.max_seq_len == 0 ? shape.max_position_embeddings : shape.max_seq_len;
  build.max_seq_len = shape.max_seq_len;
  build.tokens_per_block = shape.tokens_per_block;
  build.weight_streaming = shape.weight_streaming;
  build.tile_bytes = shape.tile_bytes;
  build.tile_codec = shape.tile_codec;
  build.canonical_rows = shape.canonical_rows;
  return build;
}

}  // namespace

ModelConfig tiny_config(const TinyModel& shape) {
  ModelConfig config;
  config.dtype = shape.dtype;
  config.vocab_size = shape.vocab_size;
  config.max_position_embeddings = shape.max_position_embeddings;
  config.hidden_size = shape.hidden_size;
  config.num_hidden_layers = shape.num_hidden_layers;
  config.num_attention_heads = shape.num_attention_heads;
  config.num_key_value_heads = shape.num_key_value_heads;
  config.head_size = shape.head_size;
  config.intermediate_size = shape.intermediate_size;
  config.rotary_scaling = shape.rotary_scaling;
  config.qkv_bias = shape.qkv_bias;
  config.dense_bias = shape.dense_bias;
  config.mlp_bias = shape.mlp_bias;
  config.tie_word_embeddings = shape.tie_word_embeddings;
  return config;
}

std::string make_tiny_checkpoint(const TinyModel& shape, const std::string& directory) {
  const ModelConfig config = tiny_config(shape);
  std::vector<NamedTensor> tensors;
  uint64_t seed = shape.seed * 1000003;
  const auto add = [&](const TensorSpec& spec) {
    tensors.push_back(random_tensor(spec, config.dtype, ++seed));
  };
  add({.role = Role::kEmbedding, .rows = config.vocab_size, .k = config.hidden_size});
  for (int64_t i = 0; i < vector_count(config); ++i) add(vector_spec(config, i));
  for (int64_t i = 0; i < matrix_count(config); ++i) {
    const TensorSpec spec = matrix_spec(config, i);
    if (spec.role != Role::kLmHead || !config.tie_word_embeddings) add(spec);
  }
  FileSystem& fs = posix_file_system();
  fs.create_directories(directory);
  write_safetensors(join_path(directory, "rank0.safetensors"), tensors);
  append_text(*fs.create(join_path(directory, "config.json")), model_config_to_json(config));
  return directory;
}

SyntheticSpec tiny_spec(const TinyModel& shape) {
  TestContext test;
  const ModelConfig model = tiny_config(shape);
  return {.name = "tiny",
          .model = model,
          .build = resolve_build_config(tiny_build(shape), model, test.log),
          .seed = shape.seed};
}

std::string make_tiny_engine(const TinyModel& shape, const std::string& directory) {
  TestContext test;
  const std::string checkpoint = make_tiny_checkpoint(shape, join_path(directory, "checkpoint"));
  build_engine(checkpoint, directory, tiny_build(shape), test.context);
  return directory;
}

}  // namespace headrace::testing
