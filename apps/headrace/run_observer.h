#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/progress.h"
#include "executor/session.h"
#include "headrace/run.h"
#include "headrace/run_output.h"
#include "text/detokenizer.h"
#include "text/stop_words.h"
#include "text/tokenizer.h"

namespace headrace::app {

/// Prints `Output [Text i Beam j]: "..."`; the token ids in place of a text that is empty.
void print_beam(size_t number, size_t beam, const std::string& text,
                std::span<const int32_t> tokens);

/// Follows a batch while it is generated: prints text as it comes (--streaming), stops sequences at
/// stop words, hands logits to the output files and moves the progress bar.
class RunObserver : public GenerationObserver {
 public:
  /// All of it outlives the object; `tokenizer` and `logits` may be null.
  RunObserver(const RunFlags& flags, const Tokenizer* tokenizer, size_t requests,
              LogitsFiles* logits, Progress& progress);

  bool on_token(size_t request, int32_t token) override;
  void on_beams(size_t request, std::span<const BeamHypothesis> beams, bool last) override;
  bool wants_logits() const override { return logits_ != nullptr; }
  void on_context_logits(size_t request, int64_t position, std::span<const float> logits) override;
  void on_generation_logits(size_t request, int64_t step, std::span<const float> logits) override;

  /// The text of a beam, which on_token() knows nothing of.
  std::string beam_text(std::span<const int32_t> tokens) const;
  /// The text of a finished sequence, stop words and what follows them left out.
  std::string finish(size_t request);

 private:
  struct Text {
    Text(const Tokenizer& tokenizer, const std::vector<std::string>& words)
        : detokenizer(tokenizer), stop(words) {}
    Detokenizer detokenizer;
    StopWords stop;
    std::string pending;  // not printed yet
    std::string printed;
    int64_t tokens = 0;
  };

  void print(size_t request);

  const RunFlags& flags_;
  const Tokenizer* tokenizer_;
  LogitsFiles* logits_;
  Progress& progress_;
  std::vector<Text> texts_;
  std::vector<int64_t> steps_;  // of beam searches, by request
  uint64_t tokens_ = 0;
};

}  // namespace headrace::app
