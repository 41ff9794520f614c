#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/context.h"
#include "text/tokenizer.h"

namespace headrace::app {

/// One prompt: its token ids and, where it came as text, the text.
struct Prompt {
  std::string text;
  std::vector<int32_t> ids;
};

/// What turns text into prompts. `tokenizer` is null when the engine has none; then only token ids
/// can be read.
struct PromptOptions {
  const Tokenizer* tokenizer = nullptr;
  bool chat = false;             // wrap each text in the model's chat template
  int64_t max_input_length = 0;  // longer prompts lose their beginning; 0: none do
};

/// Prompts from texts given on the command line. An empty one is Error{kInvalidArgument}.
std::vector<Prompt> prompts_from_texts(const std::vector<std::string>& texts,
                                       const PromptOptions& options, Context& context);

/// Whether a file of prompts is of a kind that holds token ids, by its name.
bool holds_token_ids(const std::string& path);

/// Prompts from a file: .txt (a line each), .csv (a row of token ids each) or .npy (a row of token
/// ids each, the pad id removed from its end).
std::vector<Prompt> prompts_from_file(const std::string& path, const PromptOptions& options,
                                      Context& context);

}  // namespace headrace::app
