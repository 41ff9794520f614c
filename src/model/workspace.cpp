#include "model/workspace.h"

#include <algorithm>

namespace headrace {
namespace {

constexpr size_t kAlignment = 64;

class Carver {
 public:
  explicit Carver(std::byte* memory) : memory_(memory) {}

  std::byte* take(int64_t rows, int64_t columns, DType dtype) {
    std::byte* place = memory_ == nullptr ? nullptr : memory_ + used_;
    const size_t bytes = static_cast<size_t>(rows * columns) * dtype_size(dtype);
    used_ +=
        (bytes + 2 * kAlignment - 1) / kAlignment * kAlignment;  // 64 readable bytes after each
    return place;
  }
  float* take_floats(int64_t rows, int64_t columns) {
    return reinterpret_cast<float*>(take(rows, columns, DType::kFloat32));
  }
  size_t used() const { return used_; }

 private:
  std::byte* memory_;
  size_t used_ = 0;
};

}  // namespace

PassLimits pass_limits(const ModelConfig& config, const ModelLimits& limits) {
  return {.max_tokens = std::max(limits.max_tokens, limits.max_logit_rows),
          .max_sequences = limits.max_sequences,
          .max_context = limits.max_context,
          .max_k = std::max({config.hidden_size, config.q_size(), config.intermediate_size}),
          .max_logit_rows = limits.max_logit_rows,
          .heads = config.num_attention_heads,
          .head_dim = config.head_size,
          .dtype = config.dtype,
          .canonical_rows = limits.canonical_rows};
}

Workspace Workspace::carve(const ModelConfig& config, const ModelLimits& limits,
                           std::byte* memory) {
  const int64_t tokens = limits.max_tokens;
  const DType dtype = config.dtype;
  Carver carver(memory);
  Workspace space;
  space.embedded = carver.take(tokens, config.hidden_size, dtype);
  space.residual = carver.take_floats(tokens, config.hidden_size);
  space.normed = carver.take(std::max(tokens, limits.max_logit_rows), config.hidden_size, dtype);
  space.qkv = carver.take_floats(tokens, config.qkv_size());
  space.attended = carver.take(tokens, config.q_size(), dtype);
  space.fc = carver.take_floats(tokens, config.intermediate_size);
  space.gate = carver.take_floats(tokens, config.intermediate_size);
  space.activated = carver.take(tokens, config.intermediate_size, dtype);
  space.cos = carver.take_floats(tokens, config.head_size / 2);
  space.sin = carver.take_floats(tokens, config.head_size / 2);
  space.angles = carver.take_floats(std::min(tokens, limits.max_context), config.head_size / 2);
  space.logits = carver.take_floats(limits.max_logit_rows, config.vocab_size);
  space.size_bytes = carver.used();
  return space;
}

}  // namespace headrace
