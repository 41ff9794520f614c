#include <cstdint>
#include <string>

#include <gtest/gtest.h>

#include "tensorrt_llm/common/assert.h"
#include "tensorrt_llm/common/logger.h"
#include "tensorrt_llm/common/stringUtils.h"

namespace tensorrt_llm::common {
namespace {

TEST(Fmtstr, PrintsValuesAsTheyAreWhateverTheDirectiveAsksFor) {
  EXPECT_EQ(fmtstr("%d", size_t{18446744073709551615U}), "18446744073709551615");
  EXPECT_EQ(fmtstr("%d %d %zu", int8_t{-3}, -4LL, uint16_t{5}), "-3 -4 5");
  EXPECT_EQ(fmtstr("%x", -1), "ffffffff");
  EXPECT_EQ(fmtstr("%x", int64_t{-1}), "ffffffffffffffff");
  EXPECT_EQ(fmtstr("%s and %s", std::string("one"), "two"), "one and two");
  EXPECT_EQ(fmtstr("%s %d", 7, "seven"), "7 seven");
  EXPECT_EQ(fmtstr("%.2f %g %5.1e", 1.005f, 0.5, 12345.0), "1.00 0.5 1.2e+04");
  EXPECT_EQ(fmtstr("%d", 2.5), "2.5");
  EXPECT_EQ(fmtstr("%f", 2), "2.000000");
  EXPECT_EQ(fmtstr("%c%c", 'o', 107), "ok");
  EXPECT_EQ(fmtstr("%s", static_cast<char const*>(nullptr)), "(null)");
  EXPECT_EQ(fmtstr("%d", true), "1");
}

TEST(Fmtstr, KnowsFlagsWidthsAndPrecisions) {
  EXPECT_EQ(fmtstr("[%5d|%-5d|%05d|%+d]", 42, 42, 42, 42), "[   42|42   |00042|+42]");
  EXPECT_EQ(fmtstr("[%*d|%.*s]", 4, 42, 2, "abc"), "[  42|ab]");
}

TEST(Fmtstr, LeavesWhatHasNoValue) {
  EXPECT_EQ(fmtstr("100 %%"), "100 %");
  EXPECT_EQ(fmtstr("%d %d", 1), "1 %d");
  EXPECT_EQ(fmtstr("50%"), "50%");
  EXPECT_EQ(fmtstr("50%", 1), "50%");
  EXPECT_EQ(fmtstr(std::string("100% of %d")), "100% of %d");
}

TEST(Vec2str, IsInParentheses) {
  EXPECT_EQ(vec2str(std::vector<int>{1, 2, 3}), "(1, 2, 3)");
  EXPECT_EQ(vec2str(std::vector<int>{}), "()");
  EXPECT_EQ(vec2str(std::vector<float>{0.5f, 2}, "|"), "(0.5|2)");
}

TEST(Throw, TakesFormatsAndStrings) {
  const auto message = [](auto&& action) -> std::string {
    try {
      action();
    } catch (std::exception const& error) {
      return error.what();
    }
    return "nothing was thrown";
  };
  EXPECT_TRUE(
      message([] { TLLM_THROW("Request %lu: %s", 7, "bad"); }).starts_with("Request 7: bad"));
  EXPECT_TRUE(message([] { TLLM_THROW(std::string("100%")); }).starts_with("100% ("));
  EXPECT_NE(message([] { TLLM_CHECK(1 > 2); }).find("Assertion failed: 1 > 2"), std::string::npos);
  EXPECT_NE(message([] { TLLM_CHECK_WITH_INFO(false, "%d of %d", 1, 2); }).find("1 of 2"),
            std::string::npos);
  EXPECT_NE(message([] { TLLM_CHECK_WITH_INFO(false, "plain"); }).find("plain"), std::string::npos);
}

TEST(LoggerTest, WritesLinesByLevel) {
  Logger* const logger = Logger::getLogger();
  logger->setLevel(Logger::INFO);
  ::testing::internal::CaptureStdout();
  ::testing::internal::CaptureStderr();
  TLLM_LOG_DEBUG("not this");
  TLLM_LOG_INFO("%d tokens", size_t{3});
  TLLM_LOG_INFO("100%");
  TLLM_LOG_ERROR(std::string("a %s"));
  TLLM_LOG_EXCEPTION(std::runtime_error("broken"));
  EXPECT_EQ(::testing::internal::GetCapturedStdout(),
            "[TensorRT-LLM][INFO] 3 tokens\n[TensorRT-LLM][INFO] 100%\n");
  EXPECT_EQ(::testing::internal::GetCapturedStderr(),
            "[TensorRT-LLM][ERROR] a %s\n[TensorRT-LLM][ERROR] broken\n");
}

}  // namespace
}  // namespace tensorrt_llm::common
