#include "sampling/likeliest.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>
#include <rapidcheck.h>

namespace headrace {
namespace {

TEST(FindLikeliest, IsTheHeadOfAStableSort) {
  rc::check("is the head of a stable sort", [] {
    const auto small = *rc::gen::arbitrary<std::vector<int8_t>>();  // few values, so many ties
    std::vector<float> logits(small.begin(), small.end());
    std::ranges::replace(logits, -128.0f, -std::numeric_limits<float>::infinity());
    const auto count = *rc::gen::inRange<size_t>(0, 40);
    std::vector<int32_t> expected(logits.size());
    std::iota(expected.begin(), expected.end(), 0);
    std::ranges::stable_sort(expected, [&](int32_t a, int32_t b) {
      return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
    });
    expected.resize(std::min(count, expected.size()));
    std::vector<int32_t> ids = {1, 2, 3};  // what was there does not matter
    find_likeliest(logits, count, ids);
    RC_ASSERT(ids == expected);
  });
}

}  // namespace
}  // namespace headrace
