// Ids and texts against Hugging Face's `tokenizers`: tests/golden/text/make_tokenizers.py wrote the
// expected values.

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "tests/support/golden.h"
#include "text/detokenizer.h"
#include "text/normalizer.h"
#include "text/tokenizer.h"

namespace headrace {
namespace {

using nlohmann::json;
using testing::golden_path;
using testing::read_file;
using ::testing::TestWithParam;

struct Style {
  const char* folder;    // whose tokenizer is loaded
  const char* expected;  // whose expected.json it must reproduce
};

class TokenizerGoldenTest : public TestWithParam<Style> {
 protected:
  TokenizerGoldenTest()
      : tokenizer_(Tokenizer::load(posix_file_system(),
                                   golden_path(std::string("text/") + GetParam().folder))),
        cases_(json::parse(read_file(
            golden_path(std::string("text/") + GetParam().expected + "/expected.json")))) {}

  std::unique_ptr<Tokenizer> tokenizer_;
  json cases_;
};

TEST_P(TokenizerGoldenTest, EncodesAsTheReferenceDoes) {
  ASSERT_GT(cases_.size(), 150u);
  for (const json& item : cases_) {
    const std::string text = item["text"];
    const std::vector<int32_t> ids = item["ids"];
    EXPECT_EQ(tokenizer_->encode(text), ids) << item["text"];
    const std::vector<int32_t> bare = item.value("bare_ids", ids);
    if (item.contains("bare_ids")) {
      EXPECT_EQ(tokenizer_->encode(text, {.add_special_tokens = false}), bare) << item["text"];
    }
    if (item.contains("plain_ids")) {
      const std::vector<int32_t> plain = item["plain_ids"];
      EXPECT_EQ(tokenizer_->encode(text, {.add_special_tokens = false, .parse_special = false}),
                plain)
          << item["text"];
    }
  }
}

TEST_P(TokenizerGoldenTest, DecodesAsTheReferenceDoes) {
  for (const json& item : cases_) {
    const std::vector<int32_t> ids = item["ids"];
    EXPECT_EQ(tokenizer_->decode(ids), item["decoded"].get<std::string>()) << item["text"];
    if (item.contains("decoded_with_special")) {
      EXPECT_EQ(tokenizer_->decode(ids, false), item["decoded_with_special"].get<std::string>());
    }
  }
}

TEST_P(TokenizerGoldenTest, DetokenizerGivesTheSameTextPieceByPiece) {
  for (const json& item : cases_) {
    Detokenizer detokenizer(*tokenizer_);
    std::string text;
    for (const int32_t id : item["ids"].get<std::vector<int32_t>>()) text += detokenizer.push(id);
    text += detokenizer.finish();
    EXPECT_EQ(text, item["decoded"].get<std::string>()) << item["text"];
  }
}

INSTANTIATE_TEST_SUITE_P(Styles, TokenizerGoldenTest,
                         ::testing::Values(Style{"gpt2", "gpt2"}, Style{"llama3", "llama3"},
                                           Style{"qwen2", "qwen2"}, Style{"smollm", "smollm"},
                                           Style{"smollm_gguf", "smollm"},
                                           Style{"llama2", "llama2"}),
                         [](const auto& info) { return std::string(info.param.folder); });

TEST(NormalizerGoldenTest, NormalFormsAreThoseOfTheReference) {
  const json cases = json::parse(read_file(golden_path("text/normalized.json")));
  ASSERT_GT(cases.size(), 50u);
  const std::pair<const char*, text::UnicodeForm> forms[] = {{"NFC", text::UnicodeForm::kNfc},
                                                             {"NFD", text::UnicodeForm::kNfd},
                                                             {"NFKC", text::UnicodeForm::kNfkc},
                                                             {"NFKD", text::UnicodeForm::kNfkd}};
  for (const json& item : cases) {
    for (const auto& [name, form] : forms) {
      EXPECT_EQ(text::unicode_normalize(item["text"].get<std::string>(), form),
                item[name].get<std::string>())
          << name << " of " << item["text"];
    }
  }
}

}  // namespace
}  // namespace headrace
