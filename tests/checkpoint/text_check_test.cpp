#include "checkpoint/text_check.h"

#include <gtest/gtest.h>

namespace headrace {
namespace {

TEST(TextCheck, WellFormedUtf8) {
  for (const char* text : {"", "plain", "gr\xc3\xbc\xc3\x9f", "\xe2\x82\xac", "\xf0\x9f\x98\x80",
                           "\xee\x80\x80", "\xed\x9f\xbf", "\xf4\x8f\xbf\xbf", "\xc2\x80"}) {
    EXPECT_TRUE(is_utf8(text)) << text;
  }
}

TEST(TextCheck, MalformedUtf8) {
  for (const char* text :
       {"\x80", "\xbf", "\xc0\xaf", "\xc1\x81", "\xc3", "a\xc3(", "\xe2\x82", "\xe0\x80\x80",
        "\xe0\x9f\xbf", "\xed\xa0\x80", "\xed\xbf\xbf", "\xf0\x80\x80\x80", "\xf0\x8f\xbf\xbf",
        "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "\xf0\x9f\x98"}) {
    EXPECT_FALSE(is_utf8(text)) << text;
  }
}

TEST(TextCheck, PrintableIsOneShortLine) {
  EXPECT_EQ(printable("a\nb\x7f\xc3\xbc"), "a?b???");
  EXPECT_EQ(printable(std::string(121, 'x')), std::string(120, 'x') + "...");
  EXPECT_EQ(printable(std::string(120, 'x')), std::string(120, 'x'));
}

}  // namespace
}  // namespace headrace
