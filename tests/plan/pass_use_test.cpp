#include "plan/pass_use.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "tests/support/made_weights.h"

namespace headrace {
namespace {

using testing::make_weights;

Manifest any_manifest() {
  return make_weights({.layers = *rc::gen::inRange<int64_t>(1, 6),
                       .hidden = *rc::gen::element<int64_t>(16, 72, 128),
                       .intermediate = *rc::gen::element<int64_t>(20, 100, 256),
                       .vocab = *rc::gen::inRange<int64_t>(1, 400),
                       .tile_rows = *rc::gen::element<int64_t>(1, 7, 64)})
      .manifest;
}

Plan plan_with_shares(const Manifest& manifest, double percent, uint64_t request_bytes) {
  return make_plan(manifest, {},
                   {.budget = {.percent = percent},
                    .streamed_home = Home::kHost,
                    .request_bytes = request_bytes,
                    .ring_requests = 2,
                    .host_shares = true});
}

/// How often each tile streams in a pass, and is multiplied by the host.
struct Uses {
  std::vector<int> streamed;
  std::vector<int> host;
};

Uses count_uses(const Manifest& manifest, const PassUse& use) {
  Uses uses{.streamed = std::vector<int>(manifest.tiles.size()),
            .host = std::vector<int>(manifest.tiles.size())};
  for (const TransferRequest& request : use.requests) {
    for (uint32_t t = 0; t < request.tile_count; ++t) ++uses.streamed[request.first_tile + t];
  }
  for (const TileRange& range : use.host) {
    for (uint32_t t = 0; t < range.tile_count; ++t) ++uses.host[range.first_tile + t];
  }
  return uses;
}

RC_GTEST_PROP(PassUse, EveryTileIsUsedOnce, ()) {
  const Manifest manifest = any_manifest();
  const double percent = *rc::gen::element(0.0, 0.3, 0.8, 1.0);
  const Plan plan = plan_with_shares(manifest, percent, *rc::gen::element(4096, 20000, 1 << 20));
  const double share = static_cast<double>(*rc::gen::inRange(0, 101)) / 100;
  const PassUse use = share_with_host(manifest, plan, share);
  const Uses uses = count_uses(manifest, use);
  uint64_t streamed = 0;
  uint64_t host = 0;
  for (size_t t = 0; t < manifest.tiles.size(); ++t) {
    const bool resident = plan.homes[t] == Home::kDevice;
    RC_ASSERT(uses.streamed[t] + uses.host[t] == (resident ? 0 : 1));
    if (uses.streamed[t] != 0) streamed += manifest.tiles[t].payload_bytes();
    if (uses.host[t] != 0) host += manifest.tiles[t].payload_bytes();
  }
  RC_ASSERT(use.streamed_bytes == streamed);
  RC_ASSERT(use.host_bytes == host);
  RC_ASSERT(streamed + host == plan.streamed_bytes);
  if (share == 0) {
    RC_ASSERT(host == 0u);
  }
  if (share == 1) {
    for (const TransferRequest& request : use.requests)
      RC_ASSERT(request.home < plan.common_requests);
  }
}

RC_GTEST_PROP(PassUse, EveryUseBeginsWithTheCommonRequests, ()) {
  const Manifest manifest = any_manifest();
  const Plan plan = plan_with_shares(manifest, 0, *rc::gen::element(4096, 20000));
  const PassUse all = stream_all(plan);
  const PassUse some = share_with_host(manifest, plan, 0.7);
  RC_ASSERT(plan.common_requests > 0u);
  RC_ASSERT(plan.common_requests <= some.body && some.body <= some.requests.size());
  for (uint32_t i = 0; i < plan.common_requests; ++i) {
    RC_ASSERT(some.requests[i].first_tile == all.requests[i].first_tile);
    RC_ASSERT(some.requests[i].size_bytes == all.requests[i].size_bytes);
    RC_ASSERT(some.requests[i].home == i);
  }
  uint32_t group = 0;
  for (const TransferRequest& request : some.requests) {
    RC_ASSERT(request.group >= group);
    group = request.group;
    const TransferRequest& whole = plan.requests[request.home];
    RC_ASSERT(request.first_tile == whole.first_tile);
    RC_ASSERT(request.tile_count <= whole.tile_count);
  }
}

// Each group is shared as the whole is, so that host and link end together in every one.
TEST(PassUse, SharesAreSpreadOverGroups) {
  const Manifest manifest =
      make_weights({.layers = 6, .hidden = 128, .intermediate = 512, .vocab = 512, .tile_rows = 4})
          .manifest;
  const Plan plan = plan_with_shares(manifest, 0, 1 << 16);
  const PassUse use = share_with_host(manifest, plan, 0.6);
  EXPECT_NEAR(static_cast<double>(use.host_bytes) / static_cast<double>(plan.streamed_bytes), 0.6,
              0.01);
  const Uses uses = count_uses(manifest, use);
  double shared = static_cast<double>(plan.streamed_bytes);
  for (uint32_t i = 0; i < plan.common_requests; ++i) {
    shared -= static_cast<double>(plan.requests[i].payload_bytes);
  }
  const double share = 0.6 * static_cast<double>(plan.streamed_bytes) / shared;
  for (const MatrixGroup& group : manifest.groups()) {
    double host = 0;
    double all = 0;
    bool common = false;
    for (uint32_t m = group.first_matrix; m < group.first_matrix + group.matrix_count; ++m) {
      const MatrixInfo& matrix = manifest.matrices[m];
      for (uint32_t t = matrix.first_tile; t < matrix.first_tile + matrix.tile_count; ++t) {
        const auto bytes = static_cast<double>(manifest.tiles[t].payload_bytes());
        all += bytes;
        if (uses.host[t] != 0) host += bytes;
      }
    }
    for (uint32_t i = 0; i < plan.common_requests; ++i) {
      common |= manifest.groups()[plan.requests[i].group].first_matrix == group.first_matrix;
    }
    if (common) continue;
    EXPECT_NEAR(host / all, share, 0.1);
  }
}

}  // namespace
}  // namespace headrace
