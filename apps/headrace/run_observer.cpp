#include "headrace/run_observer.h"

#include <algorithm>
#include <cstdio>

#include <fmt/ranges.h>

namespace headrace::app {

void print_beam(size_t number, size_t beam, const std::string& text,
                std::span<const int32_t> tokens) {
  const std::string ids = fmt::format("{}", fmt::join(tokens, ", "));
  std::printf("Output [Text %zu Beam %zu]: \"%s\"\n", number, beam,
              text.empty() ? ids.c_str() : text.c_str());
}

RunObserver::RunObserver(const RunFlags& flags, const Tokenizer* tokenizer, size_t requests,
                         LogitsFiles* logits, Progress& progress)
    : flags_(flags), tokenizer_(tokenizer), logits_(logits), progress_(progress), steps_(requests) {
  if (tokenizer == nullptr) return;
  texts_.reserve(requests);
  for (size_t i = 0; i < requests; ++i) texts_.emplace_back(*tokenizer, flags.stop_words);
}

bool RunObserver::on_token(size_t request, int32_t token) {
  progress_.update(++tokens_);
  if (texts_.empty()) return true;
  Text& text = texts_[request];
  text.pending += text.stop.feed(text.detokenizer.push(token));
  const bool stopped = text.stop.stopped();
  if (flags_.prints_stream() && ++text.tokens % flags_.streaming_interval == 0) print(request);
  return !stopped;
}

/// Beams replace each other, so that each print shows all that there is of them. The last one comes
/// with the results.
void RunObserver::on_beams(size_t request, std::span<const BeamHypothesis> beams, bool last) {
  progress_.update(++tokens_);
  const bool due = ++steps_[request] % flags_.streaming_interval == 0;
  if (flags_.prints_stream() && due && !last) {
    const auto shown = static_cast<size_t>(flags_.outputs_each());
    for (size_t i = 0; i < std::min(beams.size(), shown); ++i) {
      print_beam(request, i, beam_text(beams[i].tokens), beams[i].tokens);
    }
    std::fflush(stdout);
  }
  if (last && logits_ != nullptr) logits_->end_beams(request, beams);
}

void RunObserver::on_context_logits(size_t request, int64_t, std::span<const float> logits) {
  if (logits_ != nullptr) logits_->add_context(request, logits);
}

void RunObserver::on_generation_logits(size_t request, int64_t step,
                                       std::span<const float> logits) {
  if (logits_ != nullptr) logits_->set_generation(request, step, logits);
}

std::string RunObserver::beam_text(std::span<const int32_t> tokens) const {
  if (tokenizer_ == nullptr) return "";
  Text text(*tokenizer_, flags_.stop_words);
  std::string all;
  for (const int32_t token : tokens) {
    all += text.stop.feed(text.detokenizer.push(token));
    if (text.stop.stopped()) return all;
  }
  all += text.stop.feed(text.detokenizer.finish());
  return all + text.stop.finish();
}

std::string RunObserver::finish(size_t request) {
  if (texts_.empty()) return "";
  Text& text = texts_[request];
  if (!text.stop.stopped()) {
    text.pending += text.stop.feed(text.detokenizer.finish());
    text.pending += text.stop.finish();
  }
  if (flags_.prints_stream()) print(request);
  return text.printed + text.pending;
}

void RunObserver::print(size_t request) {
  Text& text = texts_[request];
  if (text.pending.empty()) return;
  const auto each = static_cast<size_t>(flags_.requests_each());
  if (each > 1) {
    std::printf("[Text %zu Beam %zu] ", request / each, request % each);
  } else if (texts_.size() > 1) {
    std::printf("[Text %zu] ", request);
  }
  std::printf("%s%s", text.pending.c_str(), texts_.size() > 1 ? "\n" : "");
  std::fflush(stdout);
  text.printed += text.pending;
  text.pending.clear();
}

}  // namespace headrace::app
