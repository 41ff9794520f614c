#include <charconv>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "headrace/app.h"
#include "text/tokenizer.h"

namespace headrace::app {
namespace {

/// Flags of `headrace tokenize` (INTERFACE.md section 5c).
struct TokenizeFlags {
  std::string engine_dir;
  std::string tokenizer_dir;
  std::string input_text;
  std::string input_file;
  std::string decode;
  bool json = false;
  bool no_special = false;
  bool chat = false;
};

std::vector<int32_t> parse_ids(std::string_view list) {
  std::vector<int32_t> ids;
  while (true) {
    const size_t comma = list.find(',');
    std::string_view digits = list.substr(0, comma);
    while (digits.starts_with(' ')) digits.remove_prefix(1);
    while (digits.ends_with(' ')) digits.remove_suffix(1);
    int32_t id = -1;
    const char* end = digits.data() + digits.size();
    const auto [stop, error] = std::from_chars(digits.data(), end, id);
    if (error != std::errc() || stop != end) {
      fail(ErrorCode::kInvalidArgument,
           "[tokenize] '{}' is not a token id: --decode takes ids separated by commas", digits);
    }
    ids.push_back(id);
    if (comma == std::string_view::npos) return ids;
    list.remove_prefix(comma + 1);
  }
}

void write(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) {
    fail(ErrorCode::kIo, "[tokenize] standard output refuses the text");
  }
}

std::string json_text(std::string_view text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

/// One line: {"ids": [...], "pieces": [...]}. Written as it goes: a long text has millions of ids.
void write_json(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  std::string out = "{\"ids\": [";
  for (size_t i = 0; i < ids.size(); ++i) {
    if (i > 0) out += ", ";
    out += std::to_string(ids[i]);
  }
  out += "], \"pieces\": [";
  for (size_t i = 0; i < ids.size(); ++i) {
    if (i > 0) out += ", ";
    out += json_text(tokenizer.piece(ids[i]));
  }
  write(out + "]}\n");
}

/// An id and its piece a line, then their number.
void write_table(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  std::string out;
  for (const int32_t id : ids) out += fmt::format("{:>8}  {}\n", id, tokenizer.piece(id));
  write(out + fmt::format("{} tokens\n", ids.size()));
}

void decode(const TokenizeFlags& flags, const Tokenizer& tokenizer) {
  const std::string text = tokenizer.decode(parse_ids(flags.decode), flags.no_special);
  write(flags.json ? fmt::format("{{\"text\": {}}}\n", json_text(text)) : text + "\n");
}

int tokenize(const TokenizeFlags& flags, Context& context) {
  const std::string& dir = flags.tokenizer_dir.empty() ? flags.engine_dir : flags.tokenizer_dir;
  if (dir.empty()) {
    fail(ErrorCode::kUsage, "[tokenize] no tokenizer: give --engine_dir or --tokenizer_dir");
  }
  const auto tokenizer = Tokenizer::load(context.fs, dir);
  if (!flags.decode.empty()) {
    decode(flags, *tokenizer);
    return 0;
  }
  std::string text =
      flags.input_file.empty() ? flags.input_text : read_text_file(context.fs, flags.input_file);
  if (flags.chat) text = tokenizer->apply_chat_template({{"user", text}});
  const std::vector<int32_t> ids =
      tokenizer->encode(text, {.add_special_tokens = !flags.no_special && !flags.chat});
  flags.json ? write_json(*tokenizer, ids) : write_table(*tokenizer, ids);
  return 0;
}

}  // namespace

void add_tokenize_command(App& app) {
  CLI::App* command = app.cli.add_subcommand("tokenize", "Show a text's token ids and pieces");
  auto flags = std::make_shared<TokenizeFlags>();  // lives as long as the callbacks below
  command->footer(
      "Example:\n  headrace tokenize --engine_dir ENGINE --input_text \"Hello\" --json");
  add_common_flags(app, *command);
  command->add_option("--engine_dir", flags->engine_dir, "Folder with a tokenizer in it");
  command->add_option("--tokenizer_dir", flags->tokenizer_dir,
                      "The same: an engine, checkpoint or Hugging Face folder");
  CLI::Option_group* input = command->add_option_group("input", "One of");
  input->add_option("--input_text", flags->input_text, "The text itself");
  input->add_option("--input_file", flags->input_file, "A file that holds the text");
  input->add_option("--decode", flags->decode, "Token ids, separated by commas, to turn into text");
  input->require_option(1);
  command->add_flag("--json", flags->json, "Print JSON: {\"ids\": [...], \"pieces\": [...]}");
  command->add_flag("--no_special", flags->no_special,
                    "Add no special tokens such as BOS; with --decode, leave them out");
  command->add_flag("--chat", flags->chat, "Wrap the text in the model's chat template");
  command->final_callback([&app, flags] {
    app.body = [flags](Context& context) { return tokenize(*flags, context); };
  });
}

}  // namespace headrace::app
