#include "executor/session_parts.h"

#include <string>

#include <gtest/gtest.h>

#include "base/error.h"

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

TEST(HostMemory, MustHoldWhatStreamsFromIt) {
  Plan plan;
  plan.homes = {Home::kDevice, Home::kHost};
  plan.streamable_bytes = 1000 * kMiB;
  plan.streamed_bytes = 750 * kMiB;
  plan.read_bytes = 800 * kMiB;
  check_host_memory(plan, 800 * kMiB);
  try {
    check_host_memory(plan, 640 * kMiB);  // 600 without padding
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kOutOfMemory);
    EXPECT_NE(std::string(error.what()).find("--gpu_weights_percent 0.41 or more fits"),
              std::string::npos)
        << error.what();
  }
  plan.homes = {Home::kDevice, Home::kDisk};  // read by pieces, not held
  check_host_memory(plan, 0);
}

TEST(KvMemory, SaysWhetherTheFractionOrTheWeightsAreInTheWay) {
  const auto message = [](double fraction, uint64_t beside_ring, uint64_t free) {
    try {
      refuse_kv_memory(fraction, kMiB, beside_ring, free);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kOutOfMemory);
      return std::string(error.what());
    }
  };
  const std::string small = message(1e-6, 900 * kMiB, 300 * kMiB);
  EXPECT_NE(small.find("free_memory_fraction 1e-06"), std::string::npos) << small;
  EXPECT_NE(small.find("use 0.0034 or more"), std::string::npos) << small;
  EXPECT_EQ(small.find("gpu_weights_percent"), std::string::npos) << small;
  const std::string weights = message(0.5, 900 * kMiB, 0);
  EXPECT_NE(weights.find("lower gpu_weights_percent"), std::string::npos) << weights;
  const std::string nothing = message(0.5, kMiB, 0);
  EXPECT_NE(nothing.find("allow more memory"), std::string::npos) << nothing;
}

}  // namespace
}  // namespace headrace
