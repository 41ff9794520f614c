#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/clock.h"
#include "executor/session.h"
#include "kernels/backend.h"
#include "kv/kv_cache.h"
#include "model/model.h"
#include "sampling/sampler.h"

namespace headrace {

/// The parts that a pass needs. All outlive the run.
struct BatchResources {
  Model& model;
  WeightStream& stream;
  EmbeddingReader& embedding;
  KvCache& kv;
  Backend& backend;
  const Clock& clock;
};

/// One batch from prompts to results: packs prompt rows of all sequences into passes of at most
/// `chunk` rows, then decodes all live sequences together. Gives its KV blocks back on destruction.
class BatchRun {
 public:
  BatchRun(const BatchResources& resources, std::span<const GenerationRequest> requests,
           int64_t chunk, bool context_logits, GenerationObserver* observer);
  ~BatchRun();
  BatchRun(const BatchRun&) = delete;
  BatchRun& operator=(const BatchRun&) = delete;

  std::vector<GenerationResult> run(GenerationStats& stats);

 private:
  struct Sequence {
    Sequence(const GenerationRequest& from, size_t at)
        : request(from), index(at), sampler(from.sampling, from.prompt, from.end_ids) {}

    int64_t prompt_size() const { return static_cast<int64_t>(request.prompt.size()); }
    bool prefilling() const { return cached < prompt_size(); }

    const GenerationRequest& request;
    const size_t index;
    Sampler sampler;
    GenerationResult result;
    std::vector<int32_t> blocks;
    int64_t cached = 0;  // positions whose K and V are in the cache
    bool live = true;
  };

  bool prefill_pass();
  bool decode_pass();
  void clear_pass();
  void add_rows(Sequence& sequence, std::span<const int32_t> ids, bool all_logits);
  void forward();
  bool take_best(const float* logits);
  int64_t best_needed() const;
  void take_logits(Sequence& sequence, int64_t position, std::span<const float> logits);
  void accept_token(Sequence& sequence, const SampledToken& sampled);

  const BatchResources resources_;
  const int64_t chunk_;
  const bool context_logits_;
  GenerationObserver* const observer_;
  std::vector<Sequence> sequences_;

  // The pass being packed.
  struct LogitOwner {
    Sequence* sequence;
    int64_t position;
  };
  std::vector<int32_t> ids_;
  std::vector<SequenceRows> rows_;
  std::vector<int32_t> logit_rows_;
  std::vector<LogitOwner> owners_;  // of logit_rows_
  std::vector<float> host_logits_;  // one row
  std::vector<int32_t> best_ids_;   // of a pass: what backend.best_tokens() found
  std::vector<float> best_logits_;
  std::vector<float> log_sums_;
};

}  // namespace headrace
