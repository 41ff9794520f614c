#include "stream/weight_stream.h"

#include <cerrno>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "tests/stream/fake_link.h"
#include "tests/stream/run_pass.h"
#include "tests/support/error_matchers.h"
#include "tests/support/golden.h"
#include "tests/support/host_backend.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/test_context.h"

namespace headrace {
namespace {

using testing::expect_error;
using testing::FakeLink;
using testing::HostBackend;
using testing::MadeWeights;
using testing::make_weights;
using testing::pass_is_right;
using testing::take_leases;
using testing::TestContext;

PlanOptions plan_options(double percent, int32_t ring, uint64_t request_bytes = 20480) {
  return {.budget = {.percent = percent}, .request_bytes = request_bytes, .ring_requests = ring};
}

/// A stream over made weights and a fake link.
struct Fixture {
  Fixture(const MadeWeights& weights, const PlanOptions& options,
          FakeLink::Order order = FakeLink::Order::kFirstFirst,
          const StreamOptions& stream_options = {})
      : made(weights), plan(make_plan(made.manifest, {}, options)) {
    auto made_link =
        std::make_unique<FakeLink>(made.content, std::max(plan.ring_requests, 4), order);
    link = made_link.get();
    stream.emplace(made.manifest, plan, std::move(made_link), "fake file", stream_options, backend,
                   test.context);
  }

  MadeWeights made;
  const Plan plan;
  HostBackend backend;
  TestContext test;
  FakeLink* link = nullptr;
  std::optional<WeightStream> stream;
};

RC_GTEST_PROP(WeightStreamTest, LeasesTheFilesBytesInAnyOrderOfCompletion, ()) {
  const MadeWeights made = make_weights({.layers = *rc::gen::inRange<int64_t>(1, 4),
                                         .hidden = *rc::gen::element<int64_t>(16, 72, 128),
                                         .intermediate = *rc::gen::element<int64_t>(20, 100),
                                         .vocab = *rc::gen::inRange<int64_t>(1, 500),
                                         .tile_rows = *rc::gen::element<int64_t>(5, 64, 1024)});
  const double percent = *rc::gen::element(0.0, 0.013, 0.2, 0.5, 0.97, 1.0);
  const auto order = *rc::gen::element(FakeLink::Order::kFirstFirst, FakeLink::Order::kLastFirst,
                                       FakeLink::Order::kRandom);
  Fixture f(made,
            plan_options(percent, *rc::gen::inRange(2, 9),
                         *rc::gen::element<uint64_t>(4096, 20480, 1 << 20)),
            order);
  f.stream->load_resident();
  uint64_t payload = 0;
  const auto kinds = *rc::gen::container<std::vector<bool>>(4, rc::gen::arbitrary<bool>());
  for (const bool with_logits : kinds) {
    RC_ASSERT(pass_is_right(*f.stream, made, with_logits));
    uint64_t expected = 0;
    for (size_t t = 0; t < made.manifest.tiles.size(); ++t) {
      const TileInfo& tile = made.manifest.tiles[t];
      const bool head = made.manifest.matrices[tile.matrix].role == Role::kLmHead;
      if (f.plan.homes[t] != Home::kDevice && (with_logits || !head)) expected += tile.raw_bytes;
    }
    RC_ASSERT(f.stream->last_pass().payload_bytes == expected);
    payload += expected;
  }
  const StreamCounters counters = f.stream->counters();
  RC_ASSERT(counters.passes == 4);
  RC_ASSERT(counters.payload_bytes == payload);
  RC_ASSERT(counters.leased_bytes == counters.payload_bytes + counters.padding_bytes);
  RC_ASSERT(counters.dropped_bytes == 0u);
  RC_ASSERT(counters.read_bytes >= counters.leased_bytes);
  RC_ASSERT(counters.read_bytes - counters.leased_bytes <= f.plan.ring_bytes());
  RC_ASSERT(f.backend.allocated_bytes == f.plan.arena_bytes + f.plan.ring_bytes());
}

TEST(WeightStreamTest, ResidentRowsComeFirstAndJoined) {
  // Rows of 128 bytes: tiles of 32 rows fill pages, so that neighbours join.
  Fixture f(
      make_weights({.layers = 1, .hidden = 64, .intermediate = 64, .vocab = 320, .tile_rows = 32}),
      plan_options(0.5, 2));
  f.stream->load_resident();
  f.stream->begin_pass(true);
  for (uint32_t g = 0; g < 4; ++g) {
    WeightFeed& feed = f.stream->group(g);
    for (Lease lease; feed.next(lease);) {
    }
  }
  WeightFeed& feed = f.stream->group(4);
  Lease lease;
  ASSERT_TRUE(feed.next(lease));
  ASSERT_EQ(lease.runs().size(), 1u);
  EXPECT_EQ(lease.runs()[0].row_begin, 0);
  const int64_t resident = lease.runs()[0].rows;
  EXPECT_NEAR(static_cast<double>(resident), 160.0, 32.0);
  EXPECT_EQ(lease.runs()[0].data, f.stream->resident_tile(f.made.manifest.matrices[5].first_tile));
  ASSERT_TRUE(feed.next(lease));
  ASSERT_EQ(lease.runs().size(), 1u);  // 5 tiles of a page each in one request of at most 5
  EXPECT_EQ(lease.runs()[0].row_begin, resident);
}

TEST(WeightStreamTest, AGroupCanBeHeldIfItIsResidentOrManyRowsLeaveRoomForTheNext) {
  constexpr int64_t kManyTokens = 32768;
  constexpr int32_t kSlots = 6;
  for (const double percent : {0.0, 1.0}) {
    Fixture f(make_weights({.layers = 1}), plan_options(percent, kSlots, 4096));
    f.stream->load_resident();
    bool fits = false;
    bool does_not_fit = false;
    for (const int64_t tokens : {int64_t{1}, kManyTokens - 1, kManyTokens}) {
      f.stream->begin_pass(false, tokens);
      for (uint32_t g = 0; g < 4; ++g) {
        const auto pieces = std::ranges::count(f.plan.requests, g, &TransferRequest::group);
        WeightFeed& feed = f.stream->group(g);
        const bool room = tokens == kManyTokens && pieces <= kSlots - 2;
        EXPECT_EQ(feed.can_hold_rest(), pieces == 0 || room) << g << " of " << tokens;
        (room ? fits : does_not_fit) = true;
        std::vector<Lease> held(1);
        while (feed.next(held.back())) {
          if (room) held.emplace_back();
        }
        for (Lease& lease : held) lease.release();
      }
      f.stream->end_pass();
    }
    EXPECT_TRUE(fits && (does_not_fit || percent == 1.0));
  }
}

TEST(WeightStreamTest, FetchesAcrossThePassBoundaryButNotLmHead) {
  Fixture f(make_weights({.layers = 1}), plan_options(0, 8, 4096));
  std::vector<uint64_t> body;
  std::vector<uint64_t> head;
  for (const TransferRequest& request : f.plan.requests) {
    (request.group == 4 ? head : body).push_back(request.offset);
  }
  ASSERT_GT(body.size(), 8u);
  f.stream->load_resident();
  // The first ring-full moves before any pass begins.
  EXPECT_EQ(f.link->started(), std::vector<uint64_t>(body.begin(), body.begin() + 8));
  ASSERT_TRUE(pass_is_right(*f.stream, f.made, false));
  std::vector<uint64_t> expected = body;
  expected.insert(expected.end(), body.begin(), body.begin() + 8);
  EXPECT_EQ(f.link->started(), expected);
  ASSERT_TRUE(pass_is_right(*f.stream, f.made, true));
  expected = body;
  expected.insert(expected.end(), body.begin(), body.end());
  expected.insert(expected.end(), head.begin(), head.end());
  expected.insert(expected.end(), body.begin(), body.begin() + 8);
  EXPECT_EQ(f.link->started(), expected);
}

TEST(WeightStreamTest, ARingLargerThanThePassWaitsForItsKind) {
  Fixture f(make_weights({.layers = 1, .vocab = 64}), plan_options(0, 64, 1 << 20));
  size_t body = 0;
  for (const TransferRequest& request : f.plan.requests) body += request.group == 4 ? 0 : 1;
  f.stream->load_resident();
  EXPECT_EQ(f.link->started().size(), body);
  f.stream->begin_pass(true);  // now lm_head and the next pass's body are known to be needed
  EXPECT_EQ(f.link->started().size(), body + 1 + body);
}

TEST(WeightStreamTest, SurvivesPassesWithoutAnythingStreamedInTheBody) {
  // A budget that holds all layers; what is left of it holds none of lm_head's large tiles.
  const MadeWeights made = make_weights(
      {.layers = 1, .hidden = 16, .intermediate = 16, .vocab = 3000, .tile_rows = 3000});
  Fixture f(made, plan_options(0.1, 2));
  for (const TransferRequest& request : f.plan.requests) ASSERT_EQ(request.group, 4u);
  f.stream->load_resident();
  for (const bool with_logits : {false, true, true, false, false, true}) {
    EXPECT_TRUE(pass_is_right(*f.stream, made, with_logits));
  }
}

TEST(WeightStreamTest, ReadErrorNamesTheTileBeforeItsBytesAreUsed) {
  for (const auto order : {FakeLink::Order::kFirstFirst, FakeLink::Order::kLastFirst}) {
    Fixture f(make_weights({}), plan_options(0, 4, 4096), order);
    const TransferRequest& bad = f.plan.requests[6];
    f.link->error_of = [&](uint64_t offset) { return offset == bad.offset ? EIO : 0; };
    f.stream->load_resident();
    f.stream->begin_pass(true);
    const std::string where =
        fmt::format("at byte {} cannot be read: Input/output error", bad.offset);
    expect_error(ErrorCode::kIo, where, [&] { take_leases(*f.stream, f.made, 1000); });
    EXPECT_EQ(f.stream->counters().requests, 6);  // those before it were good
    f.stream->begin_pass(false);
    expect_error(ErrorCode::kIo, where, [&] { take_leases(*f.stream, f.made, 1000); });
    EXPECT_EQ(f.stream->counters().requests, 6);
  }
}

TEST(WeightStreamTest, ARefusedStartIsAnErrorToo) {
  Fixture f(make_weights({}), plan_options(0, 4, 4096));
  f.link->refuse_start = ENOMEM;
  f.link->refuse_after = 5;
  f.stream->load_resident();
  f.stream->begin_pass(true);
  expect_error(ErrorCode::kIo, "Cannot allocate memory",
               [&] { take_leases(*f.stream, f.made, 1000); });
}

TEST(WeightStreamTest, AnEarlyEndOfTheFileIsCorruption) {
  Fixture f(make_weights({}), plan_options(0, 4));
  f.link->error_of = [](uint64_t) { return ENODATA; };
  f.stream->load_resident();
  f.stream->begin_pass(true);
  expect_error(ErrorCode::kCorrupt, "became shorter",
               [&] { take_leases(*f.stream, f.made, 1000); });
}

TEST(WeightStreamTest, AFlippedBitIsAnErrorThatNamesItsPlace) {
  const MadeWeights good = make_weights({});
  const uint32_t tile = good.manifest.matrices[7].first_tile;  // layer 1 fc
  const uint64_t offset = good.manifest.tiles[tile].offset;
  MadeWeights bad = good;
  bad.content[offset + 100] ^= std::byte{4};
  {
    Fixture f(bad, plan_options(0, 3));
    f.stream->load_resident();
    f.stream->begin_pass(true);
    expect_error(
        ErrorCode::kCorrupt,
        fmt::format("tile {} (layer 1 fc, rows 0 to 63) of fake file at byte {} does not match "
                    "its checksum",
                    tile, offset),
        [&] { take_leases(*f.stream, f.made, 1000); });
  }
  {
    Fixture f(bad, plan_options(1, 0));  // resident
    expect_error(ErrorCode::kCorrupt, "layer 1 fc", [&] { f.stream->load_resident(); });
  }
  Fixture f(bad, plan_options(0, 3), FakeLink::Order::kFirstFirst, {.verify = VerifyMode::kNever});
  f.stream->load_resident();
  EXPECT_TRUE(pass_is_right(*f.stream, bad, true));
}

TEST(WeightStreamTest, LaterArrivalsAreCheckedIfAsked) {
  for (const VerifyMode mode : {VerifyMode::kFirst, VerifyMode::kAlways}) {
    Fixture f(make_weights({.layers = 1}), plan_options(0, 2), FakeLink::Order::kFirstFirst,
              {.verify = mode});
    f.stream->load_resident();
    ASSERT_TRUE(pass_is_right(*f.stream, f.made, true));
    f.link->hold();
    f.stream->begin_pass(true);
    f.made.content[f.made.manifest.tiles.back().offset] ^= std::byte{1};
    f.link->let_go();
    if (mode == VerifyMode::kFirst) {
      EXPECT_NO_THROW(take_leases(*f.stream, f.made, 1000));
    } else {
      expect_error(ErrorCode::kCorrupt, "lm_head", [&] { take_leases(*f.stream, f.made, 1000); });
    }
  }
}

TEST(WeightStreamTest, AnAbandonedPassIsDroppedAndCounted) {
  Fixture f(make_weights({}), plan_options(0.2, 4, 4096));
  f.stream->load_resident();
  for (const int64_t requests : {1, 7, 10}) {
    f.stream->begin_pass(true);
    take_leases(*f.stream, f.made, requests);
    EXPECT_TRUE(pass_is_right(*f.stream, f.made, false));
    EXPECT_TRUE(pass_is_right(*f.stream, f.made, true));
  }
  const StreamCounters counters = f.stream->counters();
  EXPECT_EQ(counters.passes, 6);
  EXPECT_GT(counters.dropped_bytes, 0u);
  EXPECT_LE(counters.dropped_bytes, 3 * f.plan.ring_bytes());
  EXPECT_GE(counters.read_bytes, counters.leased_bytes + counters.dropped_bytes);
}

TEST(WeightStreamTest, EndsCleanlyWithReadsInFlight) {
  for (int taken = 0; taken < 6; ++taken) {
    Fixture f(make_weights({}), plan_options(0, 4, 4096));
    f.stream->load_resident();
    f.stream->begin_pass(true);
    take_leases(*f.stream, f.made, taken);
    f.link->hold();
    std::thread later([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      f.link->let_go();
    });
    later.join();
    f.stream.reset();
  }
}

class ManualClock : public Clock {
 public:
  int64_t now_ns() const override { return now.load(); }
  std::atomic<int64_t> now{0};
};

TEST(WeightStreamTest, KnowsWhenTheLinkStarves) {
  const MadeWeights made = make_weights({.layers = 1, .vocab = 64});
  const Plan plan = make_plan(made.manifest, {}, plan_options(0, 64, 1 << 20));
  HostBackend backend;
  TestContext test;
  ManualClock clock;
  Context context{test.context.fs, test.context.pool, test.context.log, test.context.progress,
                  clock,           test.context.trace};
  auto made_link = std::make_unique<FakeLink>(made.content, plan.ring_requests);
  FakeLink* const link = made_link.get();
  WeightStream stream(made.manifest, plan, std::move(made_link), "fake", {}, backend, context);
  link->hold();
  clock.now = 1000;
  stream.load_resident();
  clock.now = 1100;  // the body is being read
  link->let_go();
  while (stream.counters().read_bytes + made.manifest.tiles.back().stored_bytes < plan.read_bytes &&
         stream.counters().link_busy_ns == 100) {
    // lm_head alone is not read: it waits until the pass's kind is known
    if (stream.counters().read_bytes == plan.read_bytes - plan.requests.back().size_bytes) break;
    std::this_thread::yield();
  }
  EXPECT_EQ(stream.counters().link_busy_ns, 100);
  EXPECT_EQ(stream.counters().starved_ns, 0);
  clock.now = 1170;  // slots are free, nothing is read
  EXPECT_EQ(stream.counters().starved_ns, 70);
  EXPECT_EQ(stream.counters().link_busy_ns, 100);
}

TEST(WeightStreamTest, TracesEveryReadLeaseAndPassWithItsBytes) {
  const MadeWeights made = make_weights({});
  HostBackend backend;
  TestContext test;
  test.trace.enable(10'000);
  const Plan plan = make_plan(made.manifest, {}, plan_options(0.2, 4));
  {
    WeightStream stream(made.manifest, plan,
                        std::make_unique<FakeLink>(made.content, plan.ring_requests + 4), "fake",
                        {}, backend, test.context);
    stream.load_resident();
    ASSERT_TRUE(pass_is_right(stream, made, true));
  }
  const testing::TemporaryDirectory folder;
  test.trace.write(test.context.fs, folder / "trace.json");
  const std::string text = testing::read_file(folder / "trace.json");
  const auto count = [&](const std::string& part) {
    size_t found = 0;
    for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1))
      ++found;
    return found;
  };
  EXPECT_EQ(count(R"("name":"lease")"), plan.requests.size());
  EXPECT_GE(count(R"("name":"read")"), plan.requests.size());
  EXPECT_EQ(count(R"("name":"pass")"), 1u);
  EXPECT_EQ(count(fmt::format(R"("pass":0,"payload_bytes":{},)", plan.streamed_bytes)), 1u);
  for (const TransferRequest& request : plan.requests) {
    EXPECT_GE(count(fmt::format(R"("args":{{"bytes":{},"payload_bytes":{},"offset":{},)",
                                request.size_bytes, request.payload_bytes, request.offset)),
              2u);  // a read and a lease
  }
}

}  // namespace
}  // namespace headrace
