#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/context.h"
#include "engine/build_config.h"
#include "text/tokenizer.h"

namespace headrace::app {

/// How an article becomes the prompt that asks for its summary.
struct ArticlePromptOptions {
  const Tokenizer* tokenizer = nullptr;
  bool chat = false;               // the model's chat template around a request for two sentences
  bool add_special_tokens = true;  // what the model's post-processor adds; never with chat
  int64_t max_input_length = 923;  // tokens; longer articles lose their end, the request stays
};

/// The prompt's text: "{article} TL;DR:", or the chat template around the request.
std::string article_prompt_text(std::string_view article, const ArticlePromptOptions& options);

/// Its token ids, at most max_input_length of them. Error{kInvalidArgument} if not even an empty
/// article's prompt fits.
std::vector<int32_t> article_prompt(std::string_view article, const ArticlePromptOptions& options);

/// Lengths that --max_input_length and --output_len ask for.
struct SummaryLengths {
  int64_t max_input_length = 923;
  int64_t output_len = 100;
};

/// The lengths that the engine allows, the input first; each change is a warning. Error
/// {kInvalidArgument} for lengths below 1.
SummaryLengths clamp_lengths(const SummaryLengths& asked, const BuildConfig& engine, Log& log);

}  // namespace headrace::app
