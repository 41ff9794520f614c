#include "headrace/article_prompts.h"

#include <algorithm>

#include "base/error.h"
#include "base/log.h"

namespace headrace::app {
namespace {

constexpr std::string_view kSuffix = " TL;DR:";
constexpr std::string_view kRequest =
    "Summarize the following article in two sentences.\n\nArticle: ";

std::string_view trim(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n\f\v";
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

/// The set writes "do n't" where its sources had "don't".
std::string join_negations(std::string_view text) {
  constexpr std::string_view kSplit = " n't";
  std::string joined;
  for (size_t at = text.find(kSplit); at != std::string_view::npos; at = text.find(kSplit)) {
    joined += text.substr(0, at);
    joined += "n't";
    text.remove_prefix(at + kSplit.size());
  }
  return joined.append(text);
}

std::vector<int32_t> encode_prompt(std::string_view article, const ArticlePromptOptions& options) {
  const bool special = options.add_special_tokens && !options.chat;
  // An article is text: special tokens spelled out in it are not what its author meant. A chat
  // template's own are spelled out too, so that they have to be recognised there.
  return options.tokenizer->encode(article_prompt_text(article, options),
                                   {.add_special_tokens = special, .parse_special = options.chat});
}

/// The text of the first `count` ids, without a character that the cut left incomplete.
std::string decode_head(const Tokenizer& tokenizer, const std::vector<int32_t>& ids, size_t count) {
  constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
  std::string text = tokenizer.decode(std::span(ids).first(count), /*skip_special=*/false);
  while (text.ends_with(kReplacement)) text.resize(text.size() - kReplacement.size());
  return text;
}

}  // namespace

std::string article_prompt_text(std::string_view article, const ArticlePromptOptions& options) {
  const std::string text = join_negations(trim(article));
  if (!options.chat) return std::string(trim(text + std::string(kSuffix)));
  return options.tokenizer->apply_chat_template({{"user", std::string(kRequest) + text}});
}

std::vector<int32_t> article_prompt(std::string_view article, const ArticlePromptOptions& options) {
  const auto limit = static_cast<size_t>(options.max_input_length);
  std::vector<int32_t> prompt = encode_prompt(article, options);
  if (prompt.size() <= limit) return prompt;
  const std::vector<int32_t> ids =
      options.tokenizer->encode(article, {.add_special_tokens = false, .parse_special = false});
  size_t kept = ids.size();
  while (prompt.size() > limit) {
    if (kept == 0) {
      fail(ErrorCode::kInvalidArgument,
           "[summarize] the request alone takes {} tokens, --max_input_length is {}: use more",
           prompt.size(), limit);
    }
    // Text may split differently where it is cut, so that what fits is found in a few steps.
    kept -= std::min(kept, prompt.size() - limit);
    prompt = encode_prompt(decode_head(*options.tokenizer, ids, kept), options);
  }
  return prompt;
}

SummaryLengths clamp_lengths(const SummaryLengths& asked, const BuildConfig& engine, Log& log) {
  if (asked.max_input_length < 1 || asked.output_len < 1) {
    fail(ErrorCode::kInvalidArgument,
         "[summarize] --max_input_length {} and --output_len {}: use 1 or more",
         asked.max_input_length, asked.output_len);
  }
  if (engine.max_seq_len < 2) {
    fail(ErrorCode::kInvalidArgument,
         "[summarize] the engine's --max_seq_len {} leaves no room for a "
         "summary: build again with more",
         engine.max_seq_len);
  }
  SummaryLengths lengths = asked;
  lengths.max_input_length =
      std::min({asked.max_input_length, engine.max_input_len, engine.max_seq_len - 1});
  lengths.output_len = std::min(asked.output_len, engine.max_seq_len - lengths.max_input_length);
  if (lengths.max_input_length != asked.max_input_length) {
    log.warning("[summarize] --max_input_length {} is more than the engine allows: {} is used",
                asked.max_input_length, lengths.max_input_length);
  }
  if (lengths.output_len != asked.output_len) {
    log.warning(
        "[summarize] --output_len {} and an input of {} are more than the engine's "
        "--max_seq_len {}: {} is used",
        asked.output_len, lengths.max_input_length, engine.max_seq_len, lengths.output_len);
  }
  return lengths;
}

}  // namespace headrace::app
