#include "plan/host_balance.h"

#include <algorithm>
#include <limits>
#include <random>

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

// Or nearly: the slower one has a little less to do than would end with the other.
TEST(HostBalance, HostAndLinkEndTogether) {
  const Manifest manifest = some_manifest();
  const Plan plan = plan_of(manifest);
  struct Case {
    double host_gbps;
    double share;
    double host_by_link;
  };
  for (const Case& c :
       {Case{2, 0.674, 1 + 0.1 / 3}, Case{1, 0.5, 1}, Case{0.5, 0.326, 1 - 0.1 / 3}}) {
    const HostBalance balance(manifest, plan, profile_of(c.host_gbps, 1.0), 0);
    const SharedPass pass = balance.predict(0);
    EXPECT_NEAR(pass.host_ms / pass.link_ms, c.host_by_link, 1e-9);
    EXPECT_NEAR(pass.share, c.share, 0.005);  // less what meeting costs
    EXPECT_NEAR(pass.link_ms, (1 - pass.share) * static_cast<double>(plan.read_bytes) / 1e6, 1e-6);
  }
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

/// Passes on a machine whose host and link have other speeds than the profile says.
struct Machine {
  double host_gbps = 2.0;
  double link_gbps = 1.0;
  double meeting_ms = 0.0;

  /// One of them, with the share that the balance wants.
  HostPart pass(const Plan& plan, double share) const {
    const auto bytes = static_cast<double>(plan.streamed_bytes);
    const double busy_ms = share * bytes / host_gbps / 1e6;
    const double host_ms = busy_ms + meeting_ms * kProducts;
    const double link_ms = (1 - share) * bytes / link_gbps / 1e6;
    // A link that is a little late is late for some of the products only.
    const double by_host = 1 + 14 * (host_ms / std::max(link_ms, 1e-9) - 1);
    return {.products = kProducts,
            .waited_for = static_cast<uint64_t>(std::clamp(by_host, 0.0, 1.0) * kProducts),
            .payload_bytes = static_cast<uint64_t>(share * bytes),
            .busy_ns = static_cast<int64_t>(busy_ms * 1e6),
            .waited_ns = static_cast<int64_t>((std::max(host_ms, link_ms) - busy_ms) * 1e6)};
  }
  /// At which both end together.
  double best_share(const Plan& plan) const {
    const double all_ms = static_cast<double>(plan.streamed_bytes) / 1e6;
    return (all_ms / link_gbps - meeting_ms * kProducts) /
           (all_ms / link_gbps + all_ms / host_gbps);
  }

  static constexpr uint64_t kProducts = 9;
};

// Other processes slow one side down; then they go.
TEST(HostBalance, FollowsWhatHostAndLinkAchieve) {
  const Manifest manifest = some_manifest();
  const Plan plan = plan_of(manifest);
  const Machine known = {.meeting_ms = 0.03};
  for (const Machine& disturbed :
       {Machine{.host_gbps = 0.5, .meeting_ms = 0.03}, Machine{.host_gbps = 4, .meeting_ms = 0.03},
        Machine{.link_gbps = 0.4, .meeting_ms = 0.03}, Machine{.link_gbps = 3, .meeting_ms = 0.03},
        Machine{.host_gbps = 1, .link_gbps = 0.7, .meeting_ms = 0.2}}) {
    HostBalance balance(manifest, plan, profile_of(2.0, 1.0), 0);
    for (const Machine& machine : {disturbed, known}) {
      double last = balance.shares()[0];
      for (int pass = 0; pass < 300; ++pass) {
        balance.correct(0, machine.pass(plan, last));
        EXPECT_NEAR(balance.shares()[0], last, 0.15);  // smoothly
        last = balance.shares()[0];
      }
      EXPECT_NEAR(last, machine.best_share(plan), 0.03)
          << machine.host_gbps << " " << machine.link_gbps << " " << machine.meeting_ms;
    }
  }
}

/// Mean ms of passes on a machine whose speeds vary, by shares that `share_of(pass)` gives.
template <typename ShareOf, typename Seen>
double mean_of_varying_passes(const Plan& plan, double host_gbps, ShareOf share_of, Seen seen) {
  std::mt19937 random(1);
  std::normal_distribution<double> varying(1.0, 0.03);
  constexpr int kPasses = 1000;
  double ms = 0;
  for (int pass = 0; pass < kPasses; ++pass) {
    const Machine machine = {
        .host_gbps = host_gbps * varying(random), .link_gbps = varying(random), .meeting_ms = 0.03};
    const HostPart part = machine.pass(plan, share_of());
    ms += static_cast<double>(part.busy_ns + part.waited_ns) / 1e6 / kPasses;
    seen(part);
  }
  return ms;
}

// Chance decides in each pass who waits for whom; the shares do not go astray by it.
TEST(HostBalance, StaysAtTheBestShareOfAMachineThatVaries) {
  const Manifest manifest = some_manifest();
  const Plan plan = plan_of(manifest);
  for (const double host_gbps : {4.0, 2.0, 1.0, 0.5, 0.25}) {
    double best_ms = std::numeric_limits<double>::infinity();
    for (double share = 0.05; share < 0.9; share += 0.005) {
      const double ms =
          mean_of_varying_passes(plan, host_gbps, [&] { return share; }, [](const HostPart&) {});
      best_ms = std::min(best_ms, ms);
    }
    HostBalance balance(manifest, plan, profile_of(host_gbps, 1.0), 0);
    double share = balance.shares()[0];
    const double ms = mean_of_varying_passes(
        plan, host_gbps, [&] { return share; },
        [&](const HostPart& part) {
          if (balance.correct(0, part)) share = balance.shares()[0];
        });
    EXPECT_LT(ms, 1.005 * best_ms) << host_gbps << ": " << ms / best_ms;
  }
}

// Host products of other numbers of rows may be slowed down by something else.
TEST(HostBalance, SpeedsOfTheHostAreByClass) {
  const Manifest manifest = some_manifest();
  const Plan plan = plan_of(manifest);
  HostBalance balance(manifest, plan, profile_of(2.0, 1.0), 0);
  const Machine slow = {.host_gbps = 0.5, .meeting_ms = 0.03};
  for (int pass = 0; pass < 20; ++pass) balance.correct(0, slow.pass(plan, balance.shares()[0]));
  EXPECT_LT(balance.shares()[0], balance.shares()[1] - 0.1);
}

TEST(HostBalance, AHostThatWasOfNoUseIsTriedAgain) {
  const Manifest manifest = some_manifest();
  const Plan plan = plan_of(manifest);
  HostBalance balance(manifest, plan, profile_of(2.0, 1.0), 0);
  const Machine stopped = {.host_gbps = 0.001, .meeting_ms = 0.03};
  int passes = 0;
  while (balance.shares()[0] > 0 && passes++ < 300) {
    balance.correct(0, stopped.pass(plan, balance.shares()[0]));
  }
  ASSERT_EQ(balance.shares()[0], 0.0);
  bool moved = false;
  for (passes = 0; balance.shares()[0] == 0 && passes < 500; ++passes) {
    moved = balance.correct(0, {});
  }
  EXPECT_GT(balance.shares()[0], 0.0);
  EXPECT_TRUE(moved);
}

// As when the machine sleeps for a moment, or several passes are taken for one.
TEST(HostBalance, OneStrangePassMovesLittle) {
  const Manifest manifest = some_manifest();
  const Plan plan = plan_of(manifest);
  const Machine machine = {.meeting_ms = 0.03};
  const double best = machine.best_share(plan);
  for (const uint64_t waited_for : {Machine::kProducts, uint64_t{0}}) {
    HostBalance balance(manifest, plan, profile_of(2.0, 1.0), 0);
    HostPart stalled = machine.pass(plan, best);
    stalled.waited_for = waited_for;
    stalled.waited_ns += 2'000'000'000;
    balance.correct(0, stalled);
    EXPECT_NEAR(balance.shares()[0], best, 0.1) << waited_for;
    for (int pass = 0; pass < 300; ++pass) {
      balance.correct(0, machine.pass(plan, balance.shares()[0]));
    }
    EXPECT_NEAR(balance.shares()[0], best, 0.03) << waited_for;
    const double before = balance.shares()[0];
    HostPart twice = machine.pass(plan, before);
    twice.payload_bytes *= 2;
    EXPECT_FALSE(balance.correct(0, twice));
    EXPECT_EQ(balance.shares()[0], before);
    EXPECT_FALSE(balance.correct(0, {.payload_bytes = 1000, .busy_ns = 1000}));  // no product
    EXPECT_EQ(balance.shares()[0], before);
  }
}

TEST(HostBalance, TellsOfMovesOnce) {
  const Manifest manifest = some_manifest();
  const Plan plan = plan_of(manifest);
  HostBalance balance(manifest, plan, profile_of(2.0, 1.0), 0);
  const Machine as_known = {.meeting_ms = 0.03};
  const double share = balance.shares()[0];
  balance.correct(0, as_known.pass(plan, share));
  EXPECT_FALSE(balance.correct(0, as_known.pass(plan, share)));
  EXPECT_FALSE(balance.correct(0, {.products = 9, .busy_ns = 100}));  // nothing was multiplied
  EXPECT_TRUE(balance.correct(0, Machine{.host_gbps = 0.5}.pass(plan, share)));
}

}  // namespace
}  // namespace headrace
