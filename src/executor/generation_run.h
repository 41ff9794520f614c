#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <span>
#include <vector>

#include "executor/batch.h"
#include "executor/session.h"

namespace headrace {

/// One Session::generate() call: the requests of a batch are all there from the beginning. They
/// give their KV blocks back on destruction; what the batch remembers of prompts stays.
class GenerationRun : private BatchEvents {
 public:
  /// All of it outlives the run; `batch` is empty, `observer` may be null.
  GenerationRun(std::span<const GenerationRequest> requests, Batch& batch, bool context_logits,
                GenerationObserver* observer);
  ~GenerationRun() override;
  GenerationRun(const GenerationRun&) = delete;
  GenerationRun& operator=(const GenerationRun&) = delete;

  std::vector<GenerationResult> run(const PassResources& resources, GenerationStats& stats);

 private:
  void on_context_logits(Sequence& sequence, int64_t position,
                         std::span<const float> logits) override;
  void on_logits(Sequence& sequence, std::span<float> logits) override;
  bool on_token(Sequence& sequence) override;
  void on_failure(Sequence& sequence, std::exception_ptr error) override;

  GenerationObserver* const observer_;
  Batch& batch_;
  std::vector<std::unique_ptr<Sequence>> sequences_;  // by request; the batch points at them
  int64_t generated_ = 0;
  bool done_ = false;
  std::exception_ptr error_;
};

}  // namespace headrace
