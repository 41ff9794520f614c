// Detokenizer, stop words and the UTF-8 that both stand on.

#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "base/error.h"
#include "base/file.h"
#include "tests/support/error_matchers.h"
#include "tests/support/golden.h"
#include "text/detokenizer.h"
#include "text/stop_words.h"
#include "text/tokenizer.h"
#include "text/unicode.h"

namespace headrace {
namespace {

std::unique_ptr<Tokenizer> smollm() {
  return Tokenizer::load(posix_file_system(), testing::golden_path("text/smollm"));
}

/// The token of a single byte, by its spelling in the byte alphabet.
int32_t byte_token(const Tokenizer& tokenizer, const std::string& spelling) {
  return *tokenizer.find(spelling);
}

TEST(DetokenizerTest, WaitsForTheRestOfACharacter) {
  const auto tokenizer = smollm();
  Detokenizer detokenizer(*tokenizer);
  // U+1F600 is F0 9F 98 80: in the byte alphabet U+00F0, U+0141, U+013A, U+0122.
  EXPECT_EQ(detokenizer.push(byte_token(*tokenizer, "\u00f0")), "");
  EXPECT_EQ(detokenizer.push(byte_token(*tokenizer, "\u0141")), "");
  EXPECT_EQ(detokenizer.push(byte_token(*tokenizer, "\u013a")), "");
  EXPECT_EQ(detokenizer.push(byte_token(*tokenizer, "\u0122")), "\U0001F600");
  EXPECT_EQ(detokenizer.push(byte_token(*tokenizer, "a")), "a");
  EXPECT_EQ(detokenizer.finish(), "");
}

TEST(DetokenizerTest, GivesUpOnACharacterOnlyWhenItCannotComeTrue) {
  const auto tokenizer = smollm();
  Detokenizer detokenizer(*tokenizer);
  EXPECT_EQ(detokenizer.push(byte_token(*tokenizer, "\u00f0")), "");
  EXPECT_EQ(detokenizer.push(byte_token(*tokenizer, "b")), "\uFFFDb");
  EXPECT_EQ(detokenizer.push(byte_token(*tokenizer, "\u00ff")), "\uFFFD");
  EXPECT_EQ(detokenizer.push(byte_token(*tokenizer, "\u00c3")), "");
  EXPECT_EQ(detokenizer.finish(), "\uFFFD");
  EXPECT_EQ(detokenizer.finish(), "");
}

TEST(DetokenizerTest, LeavesSpecialTokensOut) {
  const auto tokenizer = smollm();
  const int32_t end = *tokenizer->find("<|im_end|>");
  EXPECT_EQ(Detokenizer(*tokenizer).push(end), "");
  EXPECT_EQ(Detokenizer(*tokenizer, false).push(end), "<|im_end|>");
  testing::expect_error(ErrorCode::kInvalidArgument, "not a token id",
                        [&] { Detokenizer(*tokenizer).push(-5); });
}

// A model's vocabulary may be padded, and the model may choose such an id.
TEST(DetokenizerTest, IdsBeyondTheVocabularyHaveNoText) {
  const auto tokenizer = smollm();
  const int32_t space_a = *tokenizer->find("\u0120a");
  const int32_t beyond = tokenizer->vocab_size();
  Detokenizer detokenizer(*tokenizer);
  EXPECT_EQ(detokenizer.push(beyond), "");
  EXPECT_EQ(detokenizer.push(byte_token(*tokenizer, "\u00f0")), "");
  EXPECT_EQ(detokenizer.push(std::numeric_limits<int32_t>::max()), "");
  EXPECT_EQ(detokenizer.finish(), "\uFFFD");
  EXPECT_EQ(detokenizer.text_of(std::vector<int32_t>{beyond, space_a, beyond, space_a}), " a a");
}

std::string feed_all(StopWords& stop, const std::vector<std::string>& pieces) {
  std::string out;
  for (const std::string& piece : pieces) out += stop.feed(piece);
  if (!stop.stopped()) out += stop.finish();
  return out;
}

TEST(StopWordsTest, StopsAcrossPieces) {
  StopWords stop({"END", "\n\n"});
  EXPECT_EQ(stop.feed("some text E"), "some text ");
  EXPECT_EQ(stop.feed("N"), "");
  EXPECT_FALSE(stop.stopped());
  EXPECT_EQ(stop.feed("D and more"), "");
  EXPECT_TRUE(stop.stopped());
  EXPECT_EQ(stop.feed("never shown"), "");
}

TEST(StopWordsTest, HoldsBackNoMoreThanItMust) {
  StopWords stop({"abcd"});
  EXPECT_EQ(stop.feed("xabc"), "x");
  EXPECT_EQ(stop.feed("abc"), "abc");
  EXPECT_EQ(stop.feed("!"), "abc!");
  EXPECT_EQ(stop.feed("ab"), "");
  EXPECT_EQ(stop.finish(), "ab");
  StopWords none({});
  EXPECT_EQ(none.feed("anything"), "anything");
  StopWords empty({""});
  EXPECT_EQ(empty.feed("anything"), "anything");
}

TEST(StopWordsTest, TheFirstWordToBeCompleteEndsTheText) {
  StopWords stop({"bcdef", "cd"});
  EXPECT_EQ(feed_all(stop, {"abcdefg"}), "ab");
  EXPECT_TRUE(stop.stopped());
}

RC_GTEST_PROP(StopWordsPropertyTest, PiecesDoNotMatter, ()) {
  const auto letters = rc::gen::container<std::string>(rc::gen::inRange('a', 'd'));
  const std::string text = *letters;
  const auto words = *rc::gen::container<std::vector<std::string>>(letters);
  StopWords whole(words);
  const std::string expected = feed_all(whole, {text});
  std::vector<std::string> pieces;
  for (const char c : text) pieces.emplace_back(1, c);
  StopWords single(words);
  RC_ASSERT(feed_all(single, pieces) == expected);
  RC_ASSERT(single.stopped() == whole.stopped());
  RC_ASSERT(text.starts_with(expected));
  for (const std::string& word : words) {
    RC_ASSERT(word.empty() || expected.find(word) == std::string::npos);
    RC_ASSERT(whole.stopped() || word.empty() || text.find(word) == std::string::npos);
  }
}

RC_GTEST_PROP(UnicodePropertyTest, CertainTextDoesNotDependOnTheCuts, ()) {
  const auto bytes = *rc::gen::container<std::string>(rc::gen::element(
      'a', '\xC3', '\xA9', '\xE4', '\xBD', '\xA0', '\xF0', '\x9F', '\x98', '\x80', '\xED', '\xFF'));
  std::string pending;
  std::string joined;
  for (const char byte : bytes) {
    pending += byte;
    joined += text::take_certain_text(pending);
    RC_ASSERT(pending.size() <= 3u);
  }
  joined += text::repair_utf8(pending);
  RC_ASSERT(joined == text::repair_utf8(bytes));
  RC_ASSERT(text::is_valid_utf8(joined));
}

}  // namespace
}  // namespace headrace
