#include "plan/host_balance.h"

#include <gtest/gtest.h>

#include "tests/support/made_weights.h"

namespace headrace {
namespace {

using testing::make_weights;

/// About 38 MB of float16 weights.
Manifest some_manifest() {
  return make_weights({.layers = 2, .hidden = 1024, .intermediate = 2048, .vocab = 1000}).manifest;
}

Plan plan_of(const Manifest& manifest) {
  return make_plan(manifest, {},
                   {.budget = {.percent = 0.0}, .streamed_home = Home::kHost, .host_shares = true});
}

MachineProfile profile_of(double host, double link) {
  MachineProfile profile;
  profile.link_gbps = link;
  profile.shared_link_gbps = link;
  for (const int64_t tokens : {1, 2, 4, 8}) {
    profile.host_rates.push_back({.tokens = tokens, .codec = CodecId::kRaw, .gbps = host});
  }
  return profile;
}

TEST(HostBalance, HostAndLinkEndTogether) {
  const Manifest manifest = some_manifest();
  const Plan plan = plan_of(manifest);
  const HostBalance balance(manifest, plan, profile_of(2.0, 1.0), 0);
  const SharedPass pass = balance.predict(0);
  EXPECT_NEAR(pass.host_ms, pass.link_ms, 1e-6);
  EXPECT_NEAR(pass.share, 2.0 / 3, 0.02);  // less what meeting costs
  EXPECT_LT(pass.share, 2.0 / 3);
  EXPECT_NEAR(pass.link_ms, (1 - pass.share) * static_cast<double>(plan.read_bytes) / 1e6, 1e-6);
}

TEST(HostBalance, AHostThatDoesNotHelpTakesNoPart) {
  const Manifest manifest = some_manifest();
  const Plan plan = plan_of(manifest);
  EXPECT_EQ(HostBalance(manifest, plan, profile_of(0.01, 50), 0).shares(), HostShares{});
  EXPECT_EQ(HostBalance(manifest, plan, {}, 0).shares(), HostShares{});
}

TEST(HostBalance, PassesOfAnotherOrderHaveNoShare) {
  const Manifest manifest = some_manifest();
  const Plan plan = plan_of(manifest);
  const HostShares shares = HostBalance(manifest, plan, profile_of(2.0, 1.0), 4).shares();
  EXPECT_GT(shares[2], 0.0);
  EXPECT_EQ(shares[3], 0.0);
}

// Other processes slow the host down; then they go.
TEST(HostBalance, FollowsWhatTheHostAchieves) {
  const Manifest manifest = some_manifest();
  const Plan plan = plan_of(manifest);
  HostBalance balance(manifest, plan, profile_of(2.0, 1.0), 0);
  const double before = balance.shares()[0];
  const uint64_t bytes = plan.streamed_bytes / 2;
  const auto at_gbps = [&](double gbps) {
    return static_cast<int64_t>(static_cast<double>(bytes) / gbps);
  };
  double last = before;
  for (int pass = 0; pass < 60; ++pass) {
    balance.correct(0, bytes, at_gbps(0.5));
    EXPECT_LE(balance.shares()[0], last + 1e-9);  // smoothly
    EXPECT_GT(balance.shares()[0], last - 0.1);
    last = balance.shares()[0];
  }
  EXPECT_NEAR(last, 1.0 / 3, 0.02);
  EXPECT_EQ(balance.shares()[1], HostBalance(manifest, plan, profile_of(2.0, 1.0), 0).shares()[1]);
  for (int pass = 0; pass < 100; ++pass) balance.correct(0, bytes, at_gbps(2.0));
  EXPECT_NEAR(balance.shares()[0], before, 0.01);
}

TEST(HostBalance, TellsOfMovesOnce) {
  const Manifest manifest = some_manifest();
  const Plan plan = plan_of(manifest);
  HostBalance balance(manifest, plan, profile_of(2.0, 1.0), 0);
  balance.correct(0, plan.streamed_bytes, static_cast<int64_t>(plan.streamed_bytes / 2));
  EXPECT_FALSE(
      balance.correct(0, plan.streamed_bytes, static_cast<int64_t>(plan.streamed_bytes / 2)));
  EXPECT_FALSE(balance.correct(0, 0, 100));  // nothing was multiplied
  EXPECT_TRUE(
      balance.correct(0, plan.streamed_bytes, static_cast<int64_t>(4 * plan.streamed_bytes)));
}

}  // namespace
}  // namespace headrace
