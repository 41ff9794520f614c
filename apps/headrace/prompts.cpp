#include "headrace/prompts.h"

#include <algorithm>
#include <charconv>
#include <string_view>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "tensor/npy.h"
#include "text/chat_template.h"

namespace headrace::app {
namespace {

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (true) {
    const size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

std::string_view trim(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r";
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

std::vector<int32_t> parse_ids(std::string_view line, const std::string& path, size_t number) {
  std::vector<int32_t> ids;
  for (const std::string_view field : split(line, ',')) {
    const std::string_view digits = trim(field);
    int32_t id = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), id);
    if (error != std::errc() || end != digits.data() + digits.size()) {
      fail(ErrorCode::kInvalidArgument,
           "[run] {} line {}: '{}' is not a token id: a row is ids separated by commas", path,
           number, digits);
    }
    ids.push_back(id);
  }
  return ids;
}

void clip(Prompt& prompt, const PromptOptions& options, Context& context) {
  const auto limit = static_cast<size_t>(options.max_input_length);
  if (limit == 0 || prompt.ids.size() <= limit) return;
  context.log.warning("[run] a prompt of {} tokens is cut to its last {} (--max_input_length)",
                      prompt.ids.size(), limit);
  prompt.ids.erase(prompt.ids.begin(), prompt.ids.end() - options.max_input_length);
}

/// For display only: ids that the tokenizer does not have are refused later, with a better message.
std::string text_of(const std::vector<int32_t>& ids, const Tokenizer* tokenizer) {
  if (tokenizer == nullptr) return "";
  const bool known =
      std::ranges::all_of(ids, [&](int32_t id) { return id >= 0 && id < tokenizer->vocab_size(); });
  return known ? tokenizer->decode(ids, false) : "";
}

std::vector<Prompt> prompts_from_csv(const std::string& path, Context& context) {
  const std::string content = read_text_file(context.fs, path);
  std::vector<Prompt> prompts;
  size_t number = 0;
  for (const std::string_view line : split(content, '\n')) {
    ++number;
    if (!trim(line).empty()) prompts.push_back({.text = {}, .ids = parse_ids(line, path, number)});
  }
  return prompts;
}

std::vector<Prompt> prompts_from_npy(const std::string& path, const PromptOptions& options,
                                     Context& context) {
  const NpyIntMatrix matrix = read_npy_int_matrix(context.fs, path);
  std::vector<Prompt> prompts;
  for (int64_t row = 0; row < matrix.rows; ++row) {
    Prompt prompt;
    const auto begin = matrix.values.begin() + row * matrix.columns;
    prompt.ids.assign(begin, begin + matrix.columns);
    const auto pad = options.tokenizer == nullptr ? std::nullopt : options.tokenizer->pad_id();
    while (pad && !prompt.ids.empty() && prompt.ids.back() == *pad) prompt.ids.pop_back();
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

}  // namespace

std::vector<Prompt> prompts_from_texts(const std::vector<std::string>& texts,
                                       const PromptOptions& options, Context& context) {
  if (options.tokenizer == nullptr) {
    fail(ErrorCode::kInvalidArgument,
         "[run] the engine has no tokenizer: pass --tokenizer_dir, or token ids as --input_file "
         "IDS.csv");
  }
  std::vector<Prompt> prompts;
  for (const std::string& text : texts) {
    Prompt prompt{.text = text, .ids = {}};
    if (text.empty())
      fail(ErrorCode::kInvalidArgument, "[run] the prompt is empty: give some text");
    if (options.chat) {
      const std::string chat = options.tokenizer->apply_chat_template({{"user", text}});
      prompt.ids = options.tokenizer->encode(chat, {.add_special_tokens = false});
    } else {
      prompt.ids = options.tokenizer->encode(text, {});
    }
    clip(prompt, options, context);
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

bool holds_token_ids(const std::string& path) {
  return path.ends_with(".csv") || path.ends_with(".npy");
}

std::vector<Prompt> prompts_from_file(const std::string& path, const PromptOptions& options,
                                      Context& context) {
  std::vector<Prompt> prompts;
  if (path.ends_with(".txt")) {
    std::vector<std::string> lines;
    const std::string content = read_text_file(context.fs, path);
    for (const std::string_view line : split(content, '\n')) {
      if (!trim(line).empty()) lines.emplace_back(line);
    }
    prompts = prompts_from_texts(lines, options, context);
  } else if (path.ends_with(".csv")) {
    prompts = prompts_from_csv(path, context);
  } else if (path.ends_with(".npy")) {
    prompts = prompts_from_npy(path, options, context);
  } else {
    fail(ErrorCode::kInvalidArgument, "[run] --input_file {}: use a .txt, .csv or .npy file", path);
  }
  if (prompts.empty()) fail(ErrorCode::kInvalidArgument, "[run] {} holds no prompt", path);
  for (Prompt& prompt : prompts) {
    clip(prompt, options, context);
    if (prompt.text.empty()) prompt.text = text_of(prompt.ids, options.tokenizer);
  }
  return prompts;
}

}  // namespace headrace::app
