#include "executor/session_parts.h"

#include <gtest/gtest.h>

namespace headrace {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

TEST(AutomaticBudget, IsWhatIsFreeBesideARingLessATenth) {
  // 128 MiB of ring.
  EXPECT_EQ(automatic_budget(628 * kMiB, 128 * kMiB, 4096 * kMiB).bytes, 450 * kMiB);
  EXPECT_EQ(automatic_budget(138 * kMiB, 128 * kMiB, 4096 * kMiB).bytes, 9 * kMiB);
}

TEST(AutomaticBudget, IsNoMoreThanThereIs) {
  EXPECT_EQ(automatic_budget(628 * kMiB, 128 * kMiB, 449 * kMiB).bytes, 449 * kMiB);
  EXPECT_EQ(automatic_budget(~uint64_t{0}, 128 * kMiB, 1).bytes, 1U);
}

TEST(AutomaticBudget, IsNothingWhereNothingIsFree) {
  EXPECT_EQ(automatic_budget(128 * kMiB, 128 * kMiB, 4096 * kMiB).bytes, 0U);
  EXPECT_EQ(automatic_budget(0, 128 * kMiB, 4096 * kMiB).bytes, 0U);
  EXPECT_EQ(automatic_budget(0, 128 * kMiB, 4096 * kMiB).percent, std::nullopt);
}

}  // namespace
}  // namespace headrace
