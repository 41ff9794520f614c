#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "executor/session.h"

namespace headrace::testing {

/// All logits of a batch, in the order that they were made, by request.
class LogitsRecorder : public GenerationObserver {
 public:
  bool wants_logits() const override { return true; }
  void on_context_logits(size_t request, int64_t, std::span<const float> logits) override {
    append(request, logits);
  }
  void on_generation_logits(size_t request, int64_t, std::span<const float> logits) override {
    append(request, logits);
  }

  const std::vector<float>& of(size_t request) { return logits_[request]; }
  const std::map<size_t, std::vector<float>>& all() const { return logits_; }

 private:
  void append(size_t request, std::span<const float> row) {
    logits_[request].insert(logits_[request].end(), row.begin(), row.end());
  }

  std::map<size_t, std::vector<float>> logits_;
};

}  // namespace headrace::testing
