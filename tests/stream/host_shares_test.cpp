// Shares of a host that multiplies: what a pass streams, and what it leaves to the host's threads.
#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include <gtest/gtest.h>

#include "plan/host_balance.h"
#include "stream/weight_stream.h"
#include "tests/stream/fake_link.h"
#include "tests/support/host_backend.h"
#include "tests/support/made_weights.h"
#include "tests/support/test_context.h"

namespace headrace {
namespace {

using testing::DeviceLikeBackend;
using testing::FakeLink;
using testing::MadeWeights;
using testing::make_weights;
using testing::TestContext;

/// Threads that multiply nothing, of which a test says what they did.
class ToldWorkers : public HostWorkers {
 public:
  int threads() const override { return 1; }
  uint32_t enqueue(const HostProduct&) override { return 0; }
  void lend_a_hand(const std::function<bool()>&) override {}
  void abandon() override {}
  HostWork work() const override { return told; }

  HostWork told;
};

class BackendWithHost : public DeviceLikeBackend {
 public:
  const HostWorkers* host_workers() const override { return &workers; }

  ToldWorkers workers;
};

class HostShareTest : public ::testing::Test {
 protected:
  HostShareTest() {
    stream_.emplace(made_.manifest, plan_, std::make_unique<FakeLink>(made_.content, 4),
                    "fake file", StreamOptions{}, backend_, test_.context);
    stream_->load_resident();
    MachineProfile profile;
    profile.link_gbps = kGbps;
    profile.shared_link_gbps = kGbps;
    for (const int64_t tokens : kSharedRows) {
      profile.host_rates.push_back({.tokens = tokens, .codec = CodecId::kRaw, .gbps = kGbps});
    }
    stream_->balance_with_host({made_.manifest, plan_, profile, 0});
  }

  /// A pass; returns the bytes that it leaves to the host. Each row has to come once, from the
  /// ring or for the host.
  uint64_t pass(int64_t tokens) {
    const std::vector<MatrixGroup> groups = made_.manifest.groups();
    stream_->begin_pass(true, tokens);
    for (uint32_t g = 0; g < groups.size(); ++g) {
      WeightFeed& feed = stream_->group(g);
      int64_t rows = 0;
      for (const WeightRun& run : feed.host_runs()) rows += run.rows;
      for (Lease lease; feed.next(lease);) {
        for (const WeightRun& run : lease.runs()) rows += run.rows;
      }
      for (uint32_t m = 0; m < groups[g].matrix_count; ++m) {
        rows -= made_.manifest.matrices[groups[g].first_matrix + m].rows;
      }
      EXPECT_EQ(rows, 0) << g;
    }
    stream_->end_pass();
    return stream_->last_pass().host_bytes;
  }

  /// What the threads did in the last pass: so many bytes in the profile's time times `slowdown`,
  /// then they waited for a link that took as long as `link` times what the profile says.
  void tell(uint64_t bytes, double slowdown, double link) {
    const auto ns = [](uint64_t of, double times) {
      return static_cast<int64_t>(times * static_cast<double>(of) / kGbps);
    };
    HostWork& told = backend_.workers.told;
    const int64_t busy_ns = ns(bytes, slowdown);
    const int64_t link_ns = ns(plan_.streamed_bytes - bytes, link);
    told.products += 9;
    told.waited_for += busy_ns > link_ns ? 9 : 0;
    told.weight_bytes += bytes;
    told.busy_ns += busy_ns;
    told.waited_ns += std::max<int64_t>(0, link_ns - busy_ns);
  }

  static constexpr double kGbps = 1;  // of the link and of the host

  const MadeWeights made_ = make_weights(
      {.layers = 2, .hidden = 512, .intermediate = 1024, .vocab = 1000, .tile_rows = 4});
  const Plan plan_ =
      make_plan(made_.manifest, {},
                {.budget = {.percent = 0.0}, .streamed_home = Home::kHost, .host_shares = true});
  BackendWithHost backend_;
  TestContext test_;
  std::optional<WeightStream> stream_;
};

TEST_F(HostShareTest, FollowWhatTheThreadsDid) {
  const uint64_t first = pass(1);
  EXPECT_GT(first, plan_.streamed_bytes / 3);
  uint64_t last = first;
  for (int i = 0; i < 20; ++i) {
    tell(last, 3, 1);
    last = pass(1);
  }
  EXPECT_LT(last, first * 3 / 4);
}

// Tiles of a class are divided again when a pass of it begins.
TEST_F(HostShareTest, FollowInClassesThatHadNoPassInBetween) {
  const uint64_t of_eight = pass(8);
  tell(of_eight, 1, 1);
  uint64_t last = pass(1);
  for (int i = 0; i < 20; ++i) {
    tell(last, 1, 3);
    last = pass(1);
  }
  tell(last, 1, 3);
  EXPECT_GT(pass(8), of_eight * 5 / 4);
  EXPECT_EQ(pass(9), 0u);  // too many rows for the host
}

}  // namespace
}  // namespace headrace
