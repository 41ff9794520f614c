#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "text/regex.h"

namespace headrace::text {

/// What becomes of the matches that split a text (the words of tokenizer.json's "behavior").
enum class SplitBehavior {
  kRemoved,             // matches are dropped
  kIsolated,            // every match is a piece
  kMergedWithPrevious,  // a match ends the piece before it
  kMergedWithNext,      // a match begins the piece after it
  kContiguous,          // neighbouring matches are one piece
};

/// Splits by the matches of `regex`; `invert` swaps matches and what lies between them.
struct SplitStep {
  Regex regex;
  SplitBehavior behavior = SplitBehavior::kIsolated;
  bool invert = false;
};

/// Splits numbers off: each digit by itself, or runs of them.
struct DigitsStep {
  bool individual = false;
};

/// Puts a space before a piece that does not begin with one.
struct PrefixSpaceStep {};

/// SentencePiece's word boundary: spaces become U+2581, and a piece gets one in front. `split`
/// makes a piece of each word.
struct MetaspaceStep {
  enum class Prepend { kNever, kFirst, kAlways };
  Prepend prepend = Prepend::kAlways;
  bool split = true;
};

/// Cuts text into the pieces ("words") within which tokens are sought. Immutable; thread-safe.
class PreTokenizer {
 public:
  using Step = std::variant<SplitStep, DigitsStep, PrefixSpaceStep, MetaspaceStep>;
  using Sink = std::function<void(std::string_view)>;

  PreTokenizer() = default;
  explicit PreTokenizer(std::vector<Step> steps) : steps_(std::move(steps)) {}

  /// Runs over texts, one after the other. Confined to one thread; borrows pre-tokenizer and sink.
  class Run {
   public:
    Run(const PreTokenizer& owner, Sink sink);
    /// Hands the pieces of `text` to the sink, in order, none of them empty; a piece is valid
    /// during the call. `at_start` says that `text` is where the whole input begins. REQUIRES:
    /// valid UTF-8.
    void split(std::string_view text, bool at_start);

   private:
    void apply(size_t step, std::string_view piece);
    void apply(size_t step, const SplitStep& rule, std::string_view piece);
    void apply(size_t step, const DigitsStep& rule, std::string_view piece);
    void apply(size_t step, const PrefixSpaceStep& rule, std::string_view piece);
    void apply(size_t step, const MetaspaceStep& rule, std::string_view piece);

    const PreTokenizer& owner_;
    Sink sink_;
    std::vector<Regex::Scanner> scanners_;
    std::vector<size_t> scanner_of_step_;
    bool at_start_ = false;
  };

 private:
  std::vector<Step> steps_;
};

}  // namespace headrace::text
