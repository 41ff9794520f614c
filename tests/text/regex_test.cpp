#include "text/regex.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/error_matchers.h"
#include "text/regex_dialect.h"

namespace headrace::text {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<std::string> matches(const Regex& regex, const std::string& text) {
  Regex::Scanner scanner(regex);
  std::vector<std::string> found;
  size_t from = 0;
  while (const auto span = scanner.next(text, from)) {
    found.push_back(text.substr(span->begin, span->end - span->begin));
    from = span->end;
  }
  return found;
}

std::vector<std::string> matches(const std::string& pattern, const std::string& text) {
  return matches(Regex(pattern), text);
}

TEST(RegexTest, ShorthandsMeanWhatTheyMeanToOniguruma) {
  EXPECT_THAT(matches(R"(\s)", "a\u180eb\u00a0c\u0085d\u2028"),
              ElementsAre("\u00a0", "\u0085", "\u2028"));
  EXPECT_THAT(matches(R"([^\s]+)", "a\u180eb c"), ElementsAre("a\u180eb", "c"));
  EXPECT_THAT(matches(R"(\S+)", "a\u180eb c"), ElementsAre("a\u180eb", "c"));
  EXPECT_THAT(matches(R"(\w+)", "a\u0301_1 \u00bd"), ElementsAre("a\u0301_1"));
  EXPECT_THAT(matches(R"(\h+)", "xyzbad 0F"), ElementsAre("bad", "0F"));
  EXPECT_THAT(matches(R"(\d)", "1\u0663\u00bd"), ElementsAre("1", "\u0663"));
}

// Letters and numbers that are younger than PCRE2's tables: CJK extension H, Kawi, Garay, Kaktovik.
TEST(RegexTest, LettersAndNumbersAreThoseOfUnicode16) {
  const std::string text = "a\U00031350\U00011f04 1\U00010d40\U0001d2c0!";
  EXPECT_THAT(matches(R"(\p{L}+)", text), ElementsAre("a\U00031350\U00011f04"));
  EXPECT_THAT(matches(R"(\p{N}+)", text), ElementsAre("1\U00010d40\U0001d2c0"));
  EXPECT_THAT(matches(R"([^\s\p{L}\p{N}]+)", text), ElementsAre("!"));
  EXPECT_THAT(matches(R"(\P{L}+)", text), ElementsAre(" 1\U00010d40\U0001d2c0!"));
  EXPECT_THAT(matches(R"([\p{L}!]+)", text), ElementsAre("a\U00031350\U00011f04", "!"));
}

TEST(RegexTest, APlusAfterAnIntervalRepeatsIt) {
  EXPECT_THAT(matches(R"(\p{N}{1,3}+)", "1234567 89"), ElementsAre("1234567", "89"));
  EXPECT_THAT(matches(R"(\p{N}{1,3})", "1234567"), ElementsAre("123", "456", "7"));
  EXPECT_THAT(matches(R"((?:ab){2}+)", "abababababab"), ElementsAre("abababababab"));
  EXPECT_THAT(matches(R"(a{,2})", "aaaaa"), ElementsAre("aa", "aa", "a"));
  EXPECT_THAT(matches(R"(\p{L}++x?)", "abx"), ElementsAre("abx"));
}

TEST(RegexTest, EmptyMatchesAreSkipped) {
  EXPECT_THAT(matches("x*", "a\U0001F600xx\u00e9"), ElementsAre("xx"));
  EXPECT_THAT(matches("", "abc"), IsEmpty());
}

TEST(RegexTest, LiteralsAreTakenAsTheyAre) {
  EXPECT_THAT(matches(Regex::literal("a.b"), "axb a.b"), ElementsAre("a.b"));
}

TEST(RegexTest, WhatCannotBeTranslatedIsNamed) {
  for (const char* pattern : {"[a&&b]", "[a[bc]]", "(", ")", "[a", R"([\W])", "(?y:a)", R"(a\)",
                              R"(\p{NoSuchThing})", "(?<n>a)\\k<m>", R"(\C)"}) {
    testing::expect_error(ErrorCode::kUnsupported, "pattern", [&] { Regex regex(pattern); });
  }
}

TEST(RegexTest, LongTextsNeedNoLimit) {
  const std::string spaces(4 << 20, ' ');
  EXPECT_EQ(matches(R"(\s+(?!\S)|\s+)", spaces + "x").front().size(), spaces.size() - 1);
  const std::string digits(4 << 20, '7');
  EXPECT_EQ(matches(R"(\p{N}{1,3}+)", digits).front().size(), digits.size());
}

TEST(RegexTest, RunawayPatternsEndWithAnError) {
  testing::expect_error(ErrorCode::kUnsupported, "too hard",
                        [&] { matches("(?:a+a+)+b", std::string(200, 'a') + "cb"); });
}

}  // namespace
}  // namespace headrace::text
