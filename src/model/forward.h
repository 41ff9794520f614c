#pragma once

#include <cstdint>
#include <initializer_list>

#include "model/model.h"

namespace headrace {

/// One pass in progress: the steps that an architecture's forward function is written with. Lives
/// on the stack of Model::forward(). Matrix groups are consumed in pass order: each matmul() takes
/// the next group of the manifest.
class Forward {
 public:
  /// Where one matrix of a group writes, and its bias.
  struct Target {
    Role role = Role::kQkv;
    float* out = nullptr;
    bool accumulate = false;
  };

  Forward(Model& model, const PassInput& input, WeightStream& weights, EmbeddingReader& embedding,
          const KvCache& kv)
      : model_(model), input_(input), weights_(weights), embedding_(embedding), kv_(kv) {}

  const ModelConfig& config() const { return model_.config(); }
  const Workspace& space() const { return model_.space_; }

  /// residual = embedding rows of the ids.
  void embed();
  /// cos and sin of every row's position.
  void prepare_rope();
  /// normed = RMSNorm(residual) with a layer's norm weight.
  void norm(int32_t layer, Role role);
  /// target = W x + bias for each matrix of the next group, x being [tokens, k] in the engine's
  /// dtype.
  void matmul(int32_t layer, const std::byte* x, std::initializer_list<Target> targets);
  /// activated = silu(fc's product) * gate's product, of the next group's two matrices; fc and gate
  /// are scratch.
  void gated_matmul(int32_t layer, const std::byte* x);
  /// Rotates Q and K of `qkv` and stores K and V in the cache.
  void rope_and_store(int32_t layer);
  /// attended = causal attention of the rotated Q over the cache.
  void attention(int32_t layer);
  /// logits = lm_head of the normed rows that are wanted; nothing if there are none.
  void logits();

 private:
  int64_t tokens() const { return static_cast<int64_t>(input_.ids.size()); }
  void multiply(int32_t layer, const std::byte* x, int64_t rows,
                std::initializer_list<Target> targets, std::byte* gated_out = nullptr);
  const float* vector(int32_t layer, Role role) const;
  const float* bias(int32_t layer, Role role) const;

  Model& model_;
  const PassInput& input_;
  WeightStream& weights_;
  EmbeddingReader& embedding_;
  const KvCache& kv_;
  uint32_t next_group_ = 0;
};

}  // namespace headrace
