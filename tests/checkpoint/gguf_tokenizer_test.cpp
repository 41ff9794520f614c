#include "checkpoint/gguf_tokenizer.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/checkpoint/gguf_bytes.h"
#include "tests/support/error_matchers.h"
#include "tests/support/golden.h"
#include "tests/support/memory_file.h"

namespace headrace {
namespace {

using nlohmann::json;
using testing::expect_error;
using testing::GgufBytes;
using testing::MemoryFile;

constexpr uint32_t kInt32 = 5;

std::string exported(GgufBytes bytes) {
  return gguf_tokenizer_json(GgufFile::read(std::make_unique<MemoryFile>(bytes.take())));
}

GgufBytes with_tokens(uint64_t more_keys) {
  GgufBytes bytes(0, 1 + more_keys);
  bytes.list("tokenizer.ggml.tokens", GgufBytes::kString, 3);
  bytes.text("<s>").text("\xc4\xa0the").text("");
  return bytes;
}

TEST(GgufTokenizer, ExportsWhatTheFileStates) {
  GgufBytes bytes = with_tokens(9);
  bytes.key("tokenizer.ggml.model", GgufBytes::kString).text("gpt2");
  bytes.key("tokenizer.ggml.pre", GgufBytes::kString).text("smollm");
  bytes.list("tokenizer.ggml.merges", GgufBytes::kString, 2).text("t h").text("th e");
  bytes.list("tokenizer.ggml.token_type", kInt32, 3).add(3).add(1).add(1);
  bytes.key("tokenizer.ggml.bos_token_id", GgufBytes::kUint32).add(0u);
  bytes.key("tokenizer.ggml.eos_token_id", GgufBytes::kUint32).add(2u);
  bytes.key("tokenizer.ggml.add_bos_token", GgufBytes::kBool).add(uint8_t{1});
  bytes.key("tokenizer.ggml.add_space_prefix", GgufBytes::kBool).add(uint8_t{0});
  bytes.key("tokenizer.chat_template", GgufBytes::kString).text("{{ \"x\" }}\n");
  const json expected = {{"format", "headrace-gguf-tokenizer"},
                         {"model", "gpt2"},
                         {"pre", "smollm"},
                         {"tokens", {"<s>", "\xc4\xa0the", ""}},
                         {"merges", {"t h", "th e"}},
                         {"token_types", {3, 1, 1}},
                         {"bos_token_id", 0},
                         {"eos_token_id", 2},
                         {"add_bos_token", true},
                         {"add_space_prefix", false},
                         {"chat_template", "{{ \"x\" }}\n"}};
  EXPECT_EQ(json::parse(exported(std::move(bytes))), expected);
}

TEST(GgufTokenizer, AbsentKeysAreLeftOut) {
  const json expected = {{"format", "headrace-gguf-tokenizer"},
                         {"tokens", {"<s>", "\xc4\xa0the", ""}}};
  EXPECT_EQ(json::parse(exported(with_tokens(0))), expected);
}

TEST(GgufTokenizer, AFileWithoutTokensHasNone) { EXPECT_EQ(exported(GgufBytes(0, 0)), ""); }

TEST(GgufTokenizer, InvalidUtf8IsRefused) {
  for (const char* bad : {"\xff", "\xc3", "\xc0\xaf", "\xed\xa0\x80", "\xf5\x80\x80\x80"}) {
    GgufBytes bytes(0, 1);
    bytes.list("tokenizer.ggml.tokens", GgufBytes::kString, 1).text(bad);
    expect_error(ErrorCode::kCorrupt, "not UTF-8", [&] { exported(bytes); });
  }
  GgufBytes bytes = with_tokens(1);
  bytes.key("tokenizer.chat_template", GgufBytes::kString).text("\xe2\x82");
  expect_error(ErrorCode::kCorrupt, "tokenizer.chat_template", [&] { exported(bytes); });
}

TEST(GgufTokenizer, IdsAndTypesMustFitTheVocabulary) {
  GgufBytes bytes = with_tokens(1);
  bytes.key("tokenizer.ggml.eos_token_id", GgufBytes::kUint32).add(3u);
  expect_error(ErrorCode::kCorrupt, "eos_token_id is 3 in a vocabulary of 3",
               [&] { exported(bytes); });
  GgufBytes types = with_tokens(1);
  types.list("tokenizer.ggml.token_type", kInt32, 2).add(1).add(1);
  expect_error(ErrorCode::kCorrupt, "2 entries for 3 tokens", [&] { exported(types); });
}

TEST(GgufTokenizer, WrongTypesAreRefused) {
  GgufBytes bytes(0, 1);
  bytes.key("tokenizer.ggml.tokens", GgufBytes::kString).text("all of them");
  expect_error(ErrorCode::kCorrupt, "should be a list of texts", [&] { exported(bytes); });
}

}  // namespace
}  // namespace headrace
