#include "stream/host_weights.h"

#include <algorithm>
#include <atomic>

#include <gtest/gtest.h>

#include "tests/stream/fake_link.h"
#include "tests/support/error_matchers.h"
#include "tests/support/host_backend.h"
#include "tests/support/made_weights.h"
#include "tests/support/test_context.h"

namespace headrace {
namespace {

using testing::expect_error;
using testing::FakeLink;
using testing::HostBackend;
using testing::MadeWeights;
using testing::make_weights;
using testing::TestContext;

/// Counts bytes that are pinned; refuses to pin more than `limit`.
class PinningBackend : public HostBackend {
 public:
  void pin(std::span<std::byte> memory) override {
    if (pinned + memory.size() > limit) fail(ErrorCode::kOutOfMemory, "[test] no more");
    pinned += memory.size();
  }
  void unpin(std::span<std::byte> memory) override { pinned -= memory.size(); }

  std::atomic<size_t> pinned = 0;
  size_t limit = ~size_t{0};
};

class HostWeightsTest : public ::testing::Test {
 protected:
  const MadeWeights made_ = make_weights({.layers = 3});
  const Plan plan_ =
      make_plan(made_.manifest, {},
                {.budget = {.percent = 0.3}, .streamed_home = Home::kHost, .request_bytes = 20480});
  FakeLink link_{made_.content, 4, FakeLink::Order::kRandom};
  TileCheck check_{made_.manifest, "fake file", VerifyMode::kFirst};
  PinningBackend backend_;
  TestContext test_;
};

TEST_F(HostWeightsTest, HoldsTheFilesBytesPinned) {
  {
    HostWeights weights(plan_, backend_);
    EXPECT_EQ(weights.load(link_, check_, test_.context), plan_.read_bytes);
    EXPECT_EQ(backend_.pinned, plan_.read_bytes);
    for (uint32_t i = 0; i < plan_.requests.size(); ++i) {
      const TransferRequest& request = plan_.requests[i];
      const auto expected =
          std::span(made_.content)
              .subspan(request.offset,
                       std::min<size_t>(request.size_bytes, made_.content.size() - request.offset));
      EXPECT_TRUE(std::ranges::equal(weights.request(i).first(expected.size()), expected)) << i;
    }
  }
  EXPECT_EQ(backend_.pinned, 0u);
}

TEST_F(HostWeightsTest, SaysWhatCannotBePinnedAndLeavesNothingPinned) {
  backend_.limit = plan_.read_bytes - 1;
  {
    HostWeights weights(plan_, backend_);
    expect_error(ErrorCode::kOutOfMemory, "no more",
                 [&] { weights.load(link_, check_, test_.context); });
  }
  EXPECT_EQ(backend_.pinned, 0u);
}

TEST_F(HostWeightsTest, EndsWithNothingInFlightWhenABitIsWrong) {
  MadeWeights damaged = made_;
  const TransferRequest& request = plan_.requests[plan_.requests.size() / 2];
  damaged.content[request.offset + 3] ^= std::byte{16};
  FakeLink link(damaged.content, 4);
  HostWeights weights(plan_, backend_);
  expect_error(ErrorCode::kCorrupt, "does not match its checksum",
               [&] { weights.load(link, check_, test_.context); });
  EXPECT_EQ(link.completed(), link.started().size());
}

}  // namespace
}  // namespace headrace
