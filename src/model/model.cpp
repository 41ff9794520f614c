#include "model/model.h"

#include <algorithm>

#include "base/error.h"
#include "model/architecture.h"
#include "model/forward.h"

namespace headrace {
namespace {

constexpr size_t kVectorAlignment = 64;

size_t padded_vector_bytes(int64_t count) {
  const size_t bytes = static_cast<size_t>(count) * sizeof(float);
  return (bytes + 2 * kVectorAlignment - 1) / kVectorAlignment * kVectorAlignment;
}

}  // namespace

Model::Model(const Engine& engine, const ModelLimits& limits, Backend& backend, Context& context)
    : config_(engine.model()),
      limits_(limits),
      backend_(backend),
      context_(context),
      rope_(config_) {
  find_architecture(config_.architecture);
  load_vectors(engine);
  workspace_memory_ = backend.allocate(workspace_bytes(config_, limits), "activations");
  space_ = Workspace::carve(config_, limits, workspace_memory_.data());
  kernel_scratch_bytes_ = backend.reserve(pass_limits(config_, limits));
}

size_t Model::workspace_bytes(const ModelConfig& config, const ModelLimits& limits) {
  return Workspace::carve(config, limits, nullptr).size_bytes;
}

void Model::load_vectors(const Engine& engine) {
  size_t bytes = 0;
  for (const VectorInfo& info : engine.manifest().vectors) bytes += padded_vector_bytes(info.count);
  vector_memory_ = backend_.allocate(bytes, "norms and biases");
  size_t offset = 0;
  for (const VectorInfo& info : engine.manifest().vectors) {
    const std::vector<float> values = engine.read_vector(info);
    std::byte* place = vector_memory_.data() + offset;
    backend_.upload(place, std::as_bytes(std::span(values)));
    vectors_[{info.layer, info.role}] = reinterpret_cast<const float*>(place);
    offset += padded_vector_bytes(info.count);
  }
}

const float* Model::forward(const PassInput& input, WeightStream& weights,
                            EmbeddingReader& embedding, const KvCache& kv) {
  HR_CHECK(static_cast<int64_t>(input.ids.size()) <= limits_.max_tokens);
  HR_CHECK(static_cast<int64_t>(input.logit_rows.size()) <= limits_.max_logit_rows);
  weights.begin_pass(!input.logit_rows.empty(), static_cast<int64_t>(input.ids.size()));
  backend_.begin_pass(input.sequences);
  Forward pass(*this, input, weights, embedding, kv);
  find_architecture(config_.architecture)(pass);
  weights.end_pass();
  return space_.logits;
}

}  // namespace headrace
