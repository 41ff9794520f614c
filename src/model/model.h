#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "base/context.h"
#include "checkpoint/model_config.h"
#include "device/buffer.h"
#include "engine/engine_reader.h"
#include "kernels/backend.h"
#include "kv/kv_cache.h"
#include "model/rope.h"
#include "model/workspace.h"
#include "stream/embedding_reader.h"
#include "stream/weight_stream.h"

namespace headrace {

/// The token rows of one pass. `sequences` cover the rows in order; `logit_rows` are the rows whose
/// logits are wanted, increasing. With none, lm_head is not run.
struct PassInput {
  std::span<const int32_t> ids;
  std::span<const SequenceRows> sequences;
  std::span<const int32_t> logit_rows;
};

/// A decoder in fast memory: its norms, biases and activations. The matrices come from a
/// WeightStream pass by pass. Confined to one thread.
class Model {
 public:
  /// Uploads the vectors and allocates the activations. An architecture that is not in the registry
  /// (model/architecture.h) is Error{kUnsupported}.
  Model(const Engine& engine, const ModelLimits& limits, Backend& backend, Context& context);

  const ModelConfig& config() const { return config_; }
  const ModelLimits& limits() const { return limits_; }
  /// Activations, kernel scratch and logits.
  size_t scratch_bytes() const { return workspace_memory_.size_bytes() + kernel_scratch_bytes_; }
  /// Norms and biases, always resident and outside the budget.
  size_t vector_bytes() const { return vector_memory_.size_bytes(); }

  /// Runs one pass and returns the wanted logits [logit_rows, vocab] in the backend's memory, valid
  /// until the next pass. The sequences' block tables must cover their positions.
  const float* forward(const PassInput& input, WeightStream& weights, EmbeddingReader& embedding,
                       const KvCache& kv);

  /// What forward() would allocate for these limits, the kernels' own scratch left out.
  static size_t workspace_bytes(const ModelConfig& config, const ModelLimits& limits);

 private:
  friend class Forward;

  void load_vectors(const Engine& engine);

  const ModelConfig config_;
  const ModelLimits limits_;
  Backend& backend_;
  Context& context_;
  RopeTable rope_;
  Buffer vector_memory_;
  std::map<std::pair<int32_t, Role>, const float*> vectors_;  // by (layer, role)
  Buffer workspace_memory_;
  Workspace space_;
  size_t kernel_scratch_bytes_ = 0;
};

}  // namespace headrace
