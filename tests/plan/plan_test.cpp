#include "plan/plan.h"

#include <cmath>
#include <limits>
#include <set>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "tests/support/error_matchers.h"
#include "tests/support/made_weights.h"

namespace headrace {
namespace {

using testing::expect_error;
using testing::MadeShape;
using testing::make_weights;

Manifest any_manifest() {
  return make_weights({.layers = *rc::gen::inRange<int64_t>(1, 6),
                       .hidden = *rc::gen::element<int64_t>(16, 40, 72, 128),
                       .intermediate = *rc::gen::element<int64_t>(20, 100, 256),
                       .vocab = *rc::gen::inRange<int64_t>(1, 400),
                       .tile_rows = *rc::gen::element<int64_t>(1, 7, 64, 1024),
                       .dtype = *rc::gen::element(DType::kFloat16, DType::kFloat32)})
      .manifest;
}

double any_percent() { return static_cast<double>(*rc::gen::inRange(0, 1001)) / 1000.0; }

/// lm_head has 512 rows of 128 bytes: 16 tiles of exactly one page each.
Manifest one_page_tiles() {
  return make_weights(
             {.layers = 1, .hidden = 64, .intermediate = 64, .vocab = 512, .tile_rows = 32})
      .manifest;
}

PlanOptions at_percent(double percent) { return {.budget = {.percent = percent}}; }

TEST(BudgetTest, PercentIsFlooredAndBytesAreClipped) {
  EXPECT_EQ(resolve_budget({.percent = 0.0}, 1000), 0u);
  EXPECT_EQ(resolve_budget({.percent = 1.0}, 1001), 1001u);
  EXPECT_EQ(resolve_budget({.percent = 0.2}, 1004), 200u);  // 200.8
  EXPECT_EQ(resolve_budget({.percent = {}, .bytes = 77}, 1000), 77u);
  EXPECT_EQ(resolve_budget({.percent = {}, .bytes = 1u << 31}, 1000), 1000u);
}

TEST(BudgetTest, PercentOutOfRangeIsAnError) {
  for (const double percent : {-0.1, 1.1, std::numeric_limits<double>::quiet_NaN(),
                               std::numeric_limits<double>::infinity()}) {
    expect_error(ErrorCode::kInvalidArgument, "between 0.0 and 1.0",
                 [&] { resolve_budget({.percent = percent}, 1000); });
  }
}

TEST(PlanTest, BadOptionsAreErrors) {
  const Manifest manifest = make_weights({}).manifest;
  for (const int32_t slots : {1, -1, 1 << 20}) {
    expect_error(ErrorCode::kInvalidArgument, "use 2 to 1024",
                 [&] { make_plan(manifest, {}, {.ring_requests = slots}); });
  }
  expect_error(ErrorCode::kInvalidArgument, "batch of 0",
               [&] { make_plan(manifest, {}, {.batch_size = 0}); });
}

TEST(PlanTest, EverythingResidentNeedsNoRing) {
  const Manifest manifest = make_weights({}).manifest;
  const Plan plan = make_plan(manifest, {}, {});
  EXPECT_EQ(plan.resident_bytes, plan.streamable_bytes);
  EXPECT_EQ(plan.streamed_bytes, 0u);
  EXPECT_TRUE(plan.requests.empty());
  EXPECT_EQ(plan.ring_requests, 0);
  EXPECT_EQ(plan.ring_bytes(), 0u);
}

TEST(PlanTest, NothingResidentStreamsEveryByte) {
  const Manifest manifest = make_weights({}).manifest;
  const Plan plan = make_plan(manifest, {}, at_percent(0));
  EXPECT_EQ(plan.streamed_bytes, plan.streamable_bytes);
  EXPECT_EQ(plan.arena_bytes, 0u);
  EXPECT_GE(plan.ring_requests, 2);
}

RC_GTEST_PROP(PlanTest, UsesTheBudgetToLessThanTheSmallestTileLeft, ()) {
  const Manifest manifest = any_manifest();
  const double percent = any_percent();
  const Plan plan = make_plan(manifest, {}, at_percent(percent));
  uint64_t streamable = 0;
  uint64_t resident = 0;
  uint64_t smallest_left = ~uint64_t{0};
  for (size_t t = 0; t < manifest.tiles.size(); ++t) {
    streamable += manifest.tiles[t].raw_bytes;
    if (plan.homes[t] == Home::kDevice) {
      resident += manifest.tiles[t].raw_bytes;
    } else {
      smallest_left = std::min(smallest_left, manifest.tiles[t].raw_bytes);
    }
  }
  RC_ASSERT(plan.streamable_bytes == streamable);
  RC_ASSERT(plan.budget_bytes ==
            static_cast<uint64_t>(std::floor(percent * static_cast<double>(streamable))));
  RC_ASSERT(plan.resident_bytes == resident);
  RC_ASSERT(plan.streamed_bytes == streamable - resident);
  RC_ASSERT(resident <= plan.budget_bytes);
  RC_ASSERT(plan.budget_bytes - resident < smallest_left);
}

RC_GTEST_PROP(PlanTest, EveryStreamedTileIsInExactlyOneRequestInOrder, ()) {
  const Manifest manifest = any_manifest();
  PlanOptions options = at_percent(any_percent());
  options.request_bytes = *rc::gen::element<uint64_t>(1, 4096, 20000, 1u << 20);
  const Plan plan = make_plan(manifest, {}, options);
  const std::vector<MatrixGroup> groups = manifest.groups();
  std::vector<int> used(manifest.tiles.size(), 0);
  uint64_t last_offset = 0;
  for (const TransferRequest& request : plan.requests) {
    RC_ASSERT(request.tile_count > 0u);
    RC_ASSERT(request.offset % 4096 == 0u);
    RC_ASSERT(request.size_bytes % 4096 == 0u);
    RC_ASSERT(request.offset >= last_offset);
    last_offset = request.offset + request.size_bytes;
    RC_ASSERT(last_offset <= manifest.file_bytes);
    RC_ASSERT(request.tile_count == 1u || request.size_bytes <= options.request_bytes);
    RC_ASSERT(request.size_bytes <= plan.ring_slot_bytes);
    uint64_t payload = 0;
    const uint32_t matrix = manifest.tiles[request.first_tile].matrix;
    for (uint32_t t = request.first_tile; t < request.first_tile + request.tile_count; ++t) {
      const TileInfo& tile = manifest.tiles[t];
      ++used[t];
      payload += tile.raw_bytes;
      RC_ASSERT(tile.matrix == matrix);
      RC_ASSERT(tile.offset >= request.offset);
      RC_ASSERT(tile.offset + tile.stored_bytes <= last_offset);
      // 64 readable bytes after the last row.
      RC_ASSERT(tile.offset - request.offset + tile.stored_bytes + 64 <= plan.ring_slot_bytes);
    }
    RC_ASSERT(payload == request.payload_bytes);
    const MatrixGroup& group = groups.at(request.group);
    RC_ASSERT(matrix >= group.first_matrix && matrix < group.first_matrix + group.matrix_count);
  }
  for (size_t t = 0; t < used.size(); ++t) {
    RC_ASSERT(used[t] == (plan.homes[t] == Home::kDevice ? 0 : 1));
  }
}

RC_GTEST_PROP(PlanTest, ResidentTilesLieApartAndNeighboursTogether, ()) {
  const Manifest manifest = any_manifest();
  const Plan plan = make_plan(manifest, {}, at_percent(any_percent()));
  uint64_t free_from = 0;  // tiles are placed in order
  for (size_t t = 0; t < manifest.tiles.size(); ++t) {
    if (plan.homes[t] != Home::kDevice) continue;
    const TileInfo& tile = manifest.tiles[t];
    RC_ASSERT(plan.arena_offsets[t] % 4096 == 0u);
    RC_ASSERT(plan.arena_offsets[t] >= free_from);
    free_from = plan.arena_offsets[t] + tile.stored_bytes;
    RC_ASSERT(free_from + 64 <= plan.arena_bytes);
    const bool neighbours =
        t > 0 && plan.homes[t - 1] == Home::kDevice && manifest.tiles[t - 1].matrix == tile.matrix;
    if (neighbours) {
      RC_ASSERT(plan.arena_offsets[t] - plan.arena_offsets[t - 1] ==
                tile.offset - manifest.tiles[t - 1].offset);
    }
  }
}

/// Some tiles coded, in half of their bytes, others not; they follow each other as in a file.
Manifest any_coded_manifest() {
  Manifest manifest = any_manifest();
  uint64_t offset = 4096;
  for (TileInfo& tile : manifest.tiles) {
    if (*rc::gen::arbitrary<bool>()) {
      tile.codec = CodecId::kE3;
      tile.row_stride_bytes = tile.row_stride_bytes / 2;
      tile.stored_bytes = static_cast<uint64_t>(tile.rows) * tile.row_stride_bytes;
    }
    tile.offset = offset;
    offset = (offset + tile.stored_bytes + 64 + 4095) / 4096 * 4096;
  }
  return manifest;
}

// What is copied into the arena are whole pages of stored tiles, and the rows of decoded ones.
RC_GTEST_PROP(PlanTest, DecodedTilesLieApartFromOthers, ()) {
  const Manifest manifest = any_coded_manifest();
  PlanOptions options = at_percent(*rc::gen::element(0.6, 0.8, 0.95, 1.0));
  options.decode_resident = true;
  const Plan plan = make_plan(manifest, {}, options);
  RC_ASSERT(plan.resident_bytes <= plan.budget_bytes);
  uint64_t free_from = 0;
  for (uint32_t t = 0; t < manifest.tiles.size(); ++t) {
    if (plan.homes[t] != Home::kDevice) {
      RC_ASSERT(!plan.decoded[t]);
      continue;
    }
    const TileInfo lies = arena_tile(manifest, plan, t);
    RC_ASSERT((lies.codec == CodecId::kRaw) ==
              (plan.decoded[t] || manifest.tiles[t].codec == CodecId::kRaw));
    RC_ASSERT(plan.arena_offsets[t] >= free_from);
    RC_ASSERT(plan.arena_offsets[t] % 16 == 0u);
    const uint64_t end = plan.arena_offsets[t] + lies.stored_bytes;
    free_from = plan.decoded[t] ? end : (end + 4095) / 4096 * 4096;
    RC_ASSERT(end + 64 <= plan.arena_bytes);
  }
}

RC_GTEST_PROP(PlanTest, ALargerBudgetNeverKeepsLess, ()) {
  const Manifest manifest = any_manifest();
  const double a = any_percent();
  const double b = any_percent();
  const Plan less = make_plan(manifest, {}, at_percent(std::min(a, b)));
  const Plan more = make_plan(manifest, {}, at_percent(std::max(a, b)));
  RC_ASSERT(less.resident_bytes <= more.resident_bytes);
}

RC_GTEST_PROP(PlanTest, IsDeterministic, ()) {
  const Manifest manifest = any_manifest();
  const PlanOptions options = at_percent(any_percent());
  const Plan a = make_plan(manifest, {}, options);
  const Plan b = make_plan(manifest, {}, options);
  RC_ASSERT(a.homes == b.homes);
  RC_ASSERT(a.arena_offsets == b.arena_offsets);
  RC_ASSERT(a.requests.size() == b.requests.size());
}

/// Equal tiles: the resident ones of a matrix are a prefix, within one tile of the share.
TEST(PlanTest, EveryMatrixGivesItsShare) {
  const Manifest manifest =
      make_weights({.layers = 6, .hidden = 64, .intermediate = 640, .vocab = 640, .tile_rows = 32})
          .manifest;
  for (const double percent : {0.013, 0.2, 0.5, 0.77, 0.97}) {
    const Plan plan = make_plan(manifest, {}, at_percent(percent));
    for (const MatrixInfo& matrix : manifest.matrices) {
      double resident = 0;
      double total = 0;
      for (uint32_t t = matrix.first_tile; t < matrix.first_tile + matrix.tile_count; ++t) {
        total += static_cast<double>(manifest.tiles[t].raw_bytes);
        if (plan.homes[t] == Home::kDevice) {
          resident += static_cast<double>(manifest.tiles[t].raw_bytes);
        }
      }
      const auto tile = static_cast<double>(manifest.tiles[matrix.first_tile].raw_bytes);
      EXPECT_NEAR(resident, percent * total, 1.5 * tile)
          << percent << " " << matrix.layer << " " << role_name(matrix.role);
    }
  }
}

/// Matrices of a single tile: the resident ones are spread over the layers.
TEST(PlanTest, SingleTileMatricesAreSpreadOverLayers) {
  const Manifest manifest =
      make_weights({.layers = 40, .hidden = 64, .intermediate = 64, .vocab = 64, .tile_rows = 1024})
          .manifest;
  const Plan plan = make_plan(manifest, {}, at_percent(0.25));
  for (const Role role : {Role::kQkv, Role::kDense, Role::kFc, Role::kGate, Role::kProj}) {
    std::vector<int> in_quarter(4, 0);
    for (const MatrixInfo& matrix : manifest.matrices) {
      if (matrix.role != role || plan.homes[matrix.first_tile] != Home::kDevice) continue;
      ++in_quarter[static_cast<size_t>(matrix.layer / 10)];
    }
    for (const int count : in_quarter) {
      EXPECT_GE(count, 1) << role_name(role);
      EXPECT_LE(count, 4) << role_name(role);
    }
  }
}

TEST(PlanTest, NeighboursTravelTogetherUpToTheLimit) {
  const Manifest manifest = one_page_tiles();
  PlanOptions options = at_percent(0);
  options.request_bytes = 3 * 4096;
  const Plan plan = make_plan(manifest, {}, options);
  std::vector<uint32_t> head;
  for (const TransferRequest& request : plan.requests) {
    if (manifest.matrices[manifest.tiles[request.first_tile].matrix].role == Role::kLmHead) {
      head.push_back(request.tile_count);
    }
  }
  EXPECT_EQ(head, (std::vector<uint32_t>{2, 2, 3, 3, 3, 3}));
  EXPECT_EQ(plan.ring_slot_bytes, 4u * 4096);  // a page more, for the 64 readable bytes
}

/// Copies from host memory run one by one: few large slots, where a disk gets many small ones.
TEST(PlanTest, RingsOfHostMemoryHaveFewerAndLargerSlots) {
  const Manifest manifest = one_page_tiles();
  PlanOptions options = at_percent(0);
  options.ring_limit_bytes = 32 * 8192;
  const Plan disk = make_plan(manifest, {}, options);
  options.streamed_home = Home::kHost;
  const Plan host = make_plan(manifest, {}, options);
  EXPECT_GT(host.ring_slot_bytes, disk.ring_slot_bytes);
  EXPECT_LT(host.requests.size(), disk.requests.size());
  EXPECT_LE(host.ring_bytes(), options.ring_limit_bytes);
  options.ring_limit_bytes = 0;
  EXPECT_EQ(ring_limit_bytes(options), uint64_t{256} << 20);
  options.streamed_home = Home::kDisk;
  EXPECT_EQ(ring_limit_bytes(options), uint64_t{128} << 20);
}

// The host can take no share of it.
TEST(PlanTest, LittleIsCommonToAllUsesWhereTheHostTakesShares) {
  const Manifest manifest = one_page_tiles();
  PlanOptions options = at_percent(0);
  options.streamed_home = Home::kHost;
  options.ring_limit_bytes = 32 * 8192;
  options.request_bytes = 8192;
  EXPECT_EQ(make_plan(manifest, {}, options).common_requests,
            make_plan(manifest, {}, options).body_requests);
  options.host_shares = true;
  const Plan plan = make_plan(manifest, {}, options);
  ASSERT_GT(plan.ring_bytes(), 16 * plan.ring_slot_bytes);
  EXPECT_GE(plan.common_requests, 1u);
  uint64_t common_bytes = 0;
  for (uint32_t i = 0; i < plan.common_requests; ++i) common_bytes += plan.requests[i].size_bytes;
  EXPECT_LE(common_bytes, plan.ring_bytes() / 16 + options.request_bytes);
}

TEST(PlanTest, RingIsAskedForOrChosenWithinItsLimit) {
  const Manifest manifest = make_weights({}).manifest;
  PlanOptions options = at_percent(0);
  options.ring_requests = 3;
  EXPECT_EQ(make_plan(manifest, {}, options).ring_requests, 3);
  options.ring_requests = 0;
  options.ring_limit_bytes = 6 * 20480;
  const Plan plan = make_plan(manifest, {}, options);
  EXPECT_LE(plan.ring_bytes(),
            std::max<uint64_t>(options.ring_limit_bytes, 4 * plan.ring_slot_bytes));
}

/// Link time is read bytes over the disk's rate, memory time all payload over the memory's, compute
/// 2 flops a weight and row.
TEST(PlanTest, PredictsTheSlowestOfLinkMemoryAndCompute) {
  const Manifest manifest = one_page_tiles();
  // Weights: qkv 128, dense, fc, gate, proj 64 each and the head 512 rows of 64: 57,344 elements.
  const double elements = (128 + 4 * 64 + 512) * 64;
  MachineProfile profile{.link_gbps = 0.001, .memory_gbps = 1, .matmul_gflops = 1};
  Plan plan = make_plan(manifest, profile, at_percent(0));
  EXPECT_EQ(plan.read_bytes, 2 * elements);  // rows of 128 bytes fill pages: no padding
  EXPECT_DOUBLE_EQ(plan.link_ms, 2 * elements / 1e6 * 1e3);
  EXPECT_DOUBLE_EQ(plan.memory_ms, 2 * elements / 1e9 * 1e3);
  EXPECT_DOUBLE_EQ(plan.compute_ms, 2 * elements / 1e9 * 1e3);
  EXPECT_DOUBLE_EQ(plan.predicted_pass_ms, plan.link_ms);
  EXPECT_EQ(plan.bound, Bound::kLink);

  PlanOptions resident = at_percent(1);
  resident.batch_size = 8;
  plan = make_plan(manifest, profile, resident);
  EXPECT_EQ(plan.link_ms, 0);
  EXPECT_DOUBLE_EQ(plan.predicted_pass_ms, 8 * 2 * elements / 1e9 * 1e3);
  EXPECT_EQ(plan.bound, Bound::kCompute);
  profile.matmul_gflops = 1000;
  EXPECT_EQ(make_plan(manifest, profile, resident).bound, Bound::kMemory);

  PlanOptions shared = at_percent(0);
  shared.streamed_home = Home::kHost;
  shared.host_shares = true;
  profile.link_gbps = profile.shared_link_gbps = 0.001;
  for (const double host_gbps : {0.002, 0.0005}) {
    profile.host_rates = {{.tokens = 1, .codec = CodecId::kRaw, .gbps = host_gbps}};
    plan = make_plan(manifest, profile, shared);
    EXPECT_DOUBLE_EQ(plan.predicted_pass_ms, std::max(plan.host_ms, plan.link_ms));
    EXPECT_STREQ(bound_name(plan.bound), "host and link");
  }
}

// Whatever the batch that it predicts for: passes have any number of rows.
TEST(PlanTest, SaysTheHostsShareOfEveryClassOfPasses) {
  const Manifest manifest = one_page_tiles();
  PlanOptions options = at_percent(0);
  options.streamed_home = Home::kHost;
  MachineProfile profile{.link_gbps = 0.001, .memory_gbps = 1, .matmul_gflops = 1};
  profile.shared_link_gbps = 0.001;
  for (const int64_t tokens : {1, 2}) {
    profile.host_rates.push_back({.tokens = tokens, .codec = CodecId::kRaw, .gbps = 0.001});
  }
  EXPECT_EQ(make_plan(manifest, profile, options).host_share, HostShares{});
  options.host_shares = true;
  for (const int64_t batch_size : {1, 2, 4, 32}) {
    options.batch_size = batch_size;
    const Plan plan = make_plan(manifest, profile, options);
    EXPECT_NEAR(plan.host_share[0], 0.5, 0.01);
    EXPECT_EQ(plan.host_share[1], plan.host_share[0]);
    EXPECT_EQ(plan.host_share[2], 0);  // never measured
    EXPECT_EQ(plan.host_ms > 0, batch_size <= 2) << batch_size;
  }
  options.budget.percent = 1.0;
  EXPECT_EQ(make_plan(manifest, profile, options).host_share, HostShares{});
}

TEST(PlanTest, PercentLineIsTheOneThatUsersKnow) {
  Plan plan;
  plan.streamable_bytes = 1000;
  plan.budget_bytes = 200;
  EXPECT_EQ(
      gpu_weights_percent_line(plan, {.percent = 0.2}),
      "Set gpu weights percent to 0.2, which is 200 bytes. Valid range: 0 bytes ~ 1000 bytes.");
  plan.budget_bytes = 1000;
  EXPECT_EQ(
      gpu_weights_percent_line(plan, {.percent = 1.0}),
      "Set gpu weights percent to 1.0, which is 1000 bytes. Valid range: 0 bytes ~ 1000 bytes.");
  plan.budget_bytes = 500;
  EXPECT_EQ(
      gpu_weights_percent_line(plan, {.percent = {}, .bytes = 500}),
      "Set gpu weights percent to 0.5, which is 500 bytes. Valid range: 0 bytes ~ 1000 bytes.");
}

}  // namespace
}  // namespace headrace
