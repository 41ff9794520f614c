#include "headrace/article_prompts.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "tests/support/error_matchers.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/test_context.h"

namespace headrace::app {
namespace {

using headrace::testing::expect_error;
using headrace::testing::MemoryLog;

BuildConfig engine_limits(int64_t max_input_len, int64_t max_seq_len) {
  BuildConfig config;
  config.max_input_len = max_input_len;
  config.max_seq_len = max_seq_len;
  return config;
}

TEST(ClampLengths, KeepsWhatFits) {
  MemoryLog log;
  const SummaryLengths lengths = clamp_lengths({}, engine_limits(1024, 2048), log);
  EXPECT_EQ(lengths.max_input_length, 923);
  EXPECT_EQ(lengths.output_len, 100);
  EXPECT_TRUE(log.lines_with("").empty());
}

// The engine of the documented commands: 923 + 100 tokens do not fit its 562.
TEST(ClampLengths, ClampsWithAWarning) {
  MemoryLog log;
  const SummaryLengths lengths = clamp_lengths({}, engine_limits(512, 562), log);
  EXPECT_EQ(lengths.max_input_length, 512);
  EXPECT_EQ(lengths.output_len, 50);
  EXPECT_EQ(log.lines_with("--max_input_length 923").size(), 1u);
  EXPECT_EQ(log.lines_with("--output_len 100").size(), 1u);
}

TEST(ClampLengths, LeavesRoomForOneToken) {
  MemoryLog log;
  const SummaryLengths lengths = clamp_lengths({}, engine_limits(64, 64), log);
  EXPECT_EQ(lengths.max_input_length, 63);
  EXPECT_EQ(lengths.output_len, 1);
  expect_error(ErrorCode::kInvalidArgument, "--max_seq_len 1",
               [&] { clamp_lengths({}, engine_limits(1, 1), log); });
  for (const SummaryLengths& bad :
       {SummaryLengths{.max_input_length = 0}, SummaryLengths{.output_len = -1}}) {
    expect_error(ErrorCode::kInvalidArgument, "use 1 or more",
                 [&] { clamp_lengths(bad, engine_limits(64, 64), log); });
  }
}

/// A byte-level tokenizer of single characters (space is "Ġ"), with a template for chats.
class ArticlePromptTest : public ::testing::Test {
 protected:
  ArticlePromptTest() {
    const std::string letters = "abcdefghijklmnopqrstuvwxyzADLRST:;.'";
    std::string vocabulary = "\"<|s|>\": 0, \"\xC4\xA0\": 1";
    for (size_t i = 0; i < letters.size(); ++i) {
      vocabulary += fmt::format(", \"{}\": {}", letters[i], i + 2);
    }
    write("tokenizer.json",
          R"({"version": "1.0", "truncation": null, "padding": null, "added_tokens": [{"id": 0,
              "content": "<|s|>", "single_word": false, "lstrip": false, "rstrip": false,
              "normalized": false, "special": true}], "normalizer": null,
              "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
              "use_regex": true}, "post_processor": null, "decoder": {"type": "ByteLevel"},
              "model": {"type": "BPE", "vocab": {)" +
              vocabulary + R"(}, "merges": []}})");
    write("tokenizer_config.json",
          R"({"chat_template": "<|s|>{{ messages[0]['content'] }}<|s|>"})");
    tokenizer_ = Tokenizer::load(posix_file_system(), folder_.path());
    options_.tokenizer = tokenizer_.get();
  }

  void write(std::string_view name, const std::string& text) {
    write_text_file(posix_file_system(), folder_ / name, text);
  }
  std::string decoded(std::string_view article) {
    return tokenizer_->decode(article_prompt(article, options_), /*skip_special=*/false);
  }

  headrace::testing::TemporaryDirectory folder_;
  std::unique_ptr<Tokenizer> tokenizer_;
  ArticlePromptOptions options_;
};

TEST_F(ArticlePromptTest, EndsWithTheRequest) {
  EXPECT_EQ(article_prompt_text(" It is n't so. \n", options_), "It isn't so. TL;DR:");
  EXPECT_EQ(article_prompt_text("", options_), "TL;DR:");
  EXPECT_EQ(decoded("dogs do n't bark."), "dogs don't bark. TL;DR:");
}

TEST_F(ArticlePromptTest, LongArticlesLoseTheirEndOnly) {
  options_.max_input_length = 12;  // a token a character: 5 of the article, 7 of the request
  EXPECT_EQ(decoded("abcdefghijkl"), "abcde TL;DR:");
  EXPECT_EQ(decoded("abcde"), "abcde TL;DR:");
  options_.max_input_length = 6;
  EXPECT_EQ(decoded("abcde"), "TL;DR:");
  options_.max_input_length = 5;
  expect_error(ErrorCode::kInvalidArgument, "takes 6 tokens", [&] { decoded("abcde"); });
}

TEST_F(ArticlePromptTest, ChatKeepsTheTemplateAroundACutArticle) {
  options_.chat = true;
  const std::string whole = article_prompt_text("abcdefgh", options_);
  EXPECT_TRUE(whole.starts_with("<|s|>")) << whole;
  EXPECT_TRUE(whole.ends_with("abcdefgh<|s|>")) << whole;
  const std::vector<int32_t> ids = article_prompt("abcdefgh", options_);
  EXPECT_EQ(ids.front(), 0);
  options_.max_input_length = static_cast<int64_t>(ids.size()) - 3;
  const std::vector<int32_t> cut = article_prompt("abcdefgh", options_);
  EXPECT_EQ(cut.size(), ids.size() - 3);
  EXPECT_TRUE(tokenizer_->decode(cut, false).ends_with("abcde<|s|>"));
}

TEST_F(ArticlePromptTest, SpecialTokensSpelledInAnArticleAreText) {
  const std::vector<int32_t> ids = article_prompt("<|s|>", options_);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 0), 0);
}

}  // namespace
}  // namespace headrace::app
