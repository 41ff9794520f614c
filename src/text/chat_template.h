#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace headrace {

/// One turn of a conversation.
struct ChatMessage {
  std::string role;     // "system", "user", "assistant", ...
  std::string content;  // UTF-8
};

struct ChatOptions {
  bool add_generation_prompt = true;  // end with the opening of the assistant's turn
  int64_t unix_time = -1;             // seconds, for strftime_now; negative: the system's time
};

/// A model's chat template: a Jinja program that turns a conversation into the prompt text that the
/// model was trained on. It renders as Python's jinja2 does when it is set up as transformers sets
/// it up (trim_blocks, lstrip_blocks, sandboxed), for the subset of the language that common
/// models' templates use. Templates come from files and are not trusted: recursion, steps and
/// output are limited, and a template can reach nothing but its variables. Immutable; thread-safe.
class ChatTemplate {
 public:
  /// Parses `source`. `bos_token` and `eos_token` become variables of those names; empty where the
  /// model has none. Error{kInvalidArgument} with the line for a syntax error.
  ChatTemplate(const std::string& source, std::string bos_token, std::string eos_token);
  ~ChatTemplate();

  /// The prompt text. Error{kInvalidArgument} if the template refuses the conversation
  /// (raise_exception), uses what is not supported, or exceeds a limit.
  std::string render(const std::vector<ChatMessage>& messages,
                     const ChatOptions& options = {}) const;

 private:
  struct Impl;
  std::unique_ptr<const Impl> impl_;
};

}  // namespace headrace
