#include "text/pre_tokenizer.h"

#include <optional>

#include "text/normalizer.h"
#include "text/unicode.h"

namespace headrace::text {
namespace {

constexpr std::string_view kMetaspace = "\xE2\x96\x81";  // U+2581

/// Gathers the parts of a text, told apart as matches and not, into pieces as a behaviour asks.
class Splitter {
 public:
  Splitter(SplitBehavior behavior, std::string_view text, const PreTokenizer::Sink& sink)
      : behavior_(behavior), text_(text), sink_(sink) {}

  void part(Span span, bool is_match) {
    switch (behavior_) {
      case SplitBehavior::kRemoved:
        if (!is_match) emit(span);
        break;
      case SplitBehavior::kIsolated:
        emit(span);
        break;
      case SplitBehavior::kContiguous:
        join(span, is_match == last_was_match_);
        break;
      case SplitBehavior::kMergedWithPrevious:
        join(span, is_match && !last_was_match_);
        break;
      case SplitBehavior::kMergedWithNext:
        join(span, !is_match && last_was_match_);
        break;
    }
    last_was_match_ = is_match;
  }

  void finish() {
    emit(open_);
    open_ = {0, 0};
  }

 private:
  void emit(Span span) {
    if (span.end > span.begin) sink_(text_.substr(span.begin, span.end - span.begin));
  }

  void join(Span span, bool with_open) {
    if (with_open && open_.end > 0) {
      open_.end = span.end;
      return;
    }
    finish();
    open_ = span;
  }

  SplitBehavior behavior_;
  std::string_view text_;
  const PreTokenizer::Sink& sink_;
  Span open_{0, 0};  // the piece being gathered; ends at 0: none
  bool last_was_match_ = false;
};

}  // namespace

PreTokenizer::Run::Run(const PreTokenizer& owner, Sink sink)
    : owner_(owner), sink_(std::move(sink)) {
  for (const Step& step : owner_.steps_) {
    scanner_of_step_.push_back(scanners_.size());
    if (const auto* split = std::get_if<SplitStep>(&step)) scanners_.emplace_back(split->regex);
  }
}

void PreTokenizer::Run::split(std::string_view text, bool at_start) {
  at_start_ = at_start;
  if (!text.empty()) apply(0, text);
}

void PreTokenizer::Run::apply(size_t step, std::string_view piece) {
  if (step == owner_.steps_.size()) {
    sink_(piece);
    return;
  }
  std::visit([&](const auto& rule) { apply(step, rule, piece); }, owner_.steps_[step]);
}

void PreTokenizer::Run::apply(size_t step, const SplitStep& rule, std::string_view piece) {
  const Sink next = [this, step](std::string_view part) { apply(step + 1, part); };
  Splitter splitter(rule.behavior, piece, next);
  Regex::Scanner& scanner = scanners_[scanner_of_step_[step]];
  size_t done = 0;
  while (const std::optional<Span> match = scanner.next(piece, done)) {
    if (match->begin > done) splitter.part({done, match->begin}, rule.invert);
    splitter.part(*match, !rule.invert);
    done = match->end;
  }
  if (done < piece.size()) splitter.part({done, piece.size()}, rule.invert);
  splitter.finish();
}

void PreTokenizer::Run::apply(size_t step, const DigitsStep& rule, std::string_view piece) {
  size_t begin = 0;
  size_t position = 0;
  bool in_number = false;
  const auto cut = [&](size_t end) {
    if (end > begin) apply(step + 1, piece.substr(begin, end - begin));
    begin = end;
  };
  while (position < piece.size()) {
    const Utf8Step character = utf8_step(piece.substr(position));
    const bool number = is_numeric(character.code);
    if (number != in_number || (number && rule.individual)) cut(position);
    in_number = number;
    position += character.length;
  }
  cut(position);
}

void PreTokenizer::Run::apply(size_t step, const PrefixSpaceStep&, std::string_view piece) {
  if (piece.front() == ' ') {
    apply(step + 1, piece);
    return;
  }
  std::string spaced(" ");
  spaced += piece;
  apply(step + 1, spaced);
}

void PreTokenizer::Run::apply(size_t step, const MetaspaceStep& rule, std::string_view piece) {
  std::string marked = replace_all(piece, {.from = " ", .to = std::string(kMetaspace)});
  const bool prepend = rule.prepend == MetaspaceStep::Prepend::kAlways ||
                       (rule.prepend == MetaspaceStep::Prepend::kFirst && at_start_);
  if (prepend && !marked.starts_with(kMetaspace)) marked.insert(0, kMetaspace);
  if (!rule.split) {
    apply(step + 1, marked);
    return;
  }
  size_t begin = 0;
  while (begin < marked.size()) {
    const size_t after =
        begin + (marked.compare(begin, kMetaspace.size(), kMetaspace) == 0 ? kMetaspace.size() : 0);
    const size_t end = std::min(marked.find(kMetaspace, after), marked.size());
    apply(step + 1, std::string_view(marked).substr(begin, end - begin));
    begin = end;
  }
}

}  // namespace headrace::text
