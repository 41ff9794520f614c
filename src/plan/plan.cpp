#include "plan/plan.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "engine/format.h"
#include "plan/host_balance.h"
#include "plan/residency.h"

namespace headrace {
namespace {

constexpr int32_t kFewestChosenSlots = 4;
constexpr int32_t kMostChosenSlots = 32;
constexpr int32_t kMostRingSlots = 1024;
constexpr uint64_t kRingShare = 4;  // the ring takes at most this fraction of what streams,
constexpr uint64_t kSmallRingBytes = uint64_t{16} << 20;  // or this if that is more
constexpr uint64_t kDiskRingBytes = uint64_t{128} << 20;
constexpr uint64_t kHostRingBytes = uint64_t{256} << 20;
constexpr uint64_t kDiskSlots = 16;  // a disk wants many reads at once;
constexpr uint64_t kHostSlots = 8;   // copies run one by one, with a pause of some us after each
constexpr uint64_t kSmallRequestBytes = uint64_t{2} << 20;

/// First byte after the tile's last page.
uint64_t page_end(const TileInfo& tile) {
  return align_up(tile.offset + tile.stored_bytes, kPageBytes);
}

/// Calls visit(begin, end) for every longest run of tiles [begin, end) of one matrix of which
/// wanted[tile] is true, and that follow each other page by page in the file.
template <typename F>
void for_each_run(const Manifest& manifest, const std::vector<bool>& wanted, F&& visit) {
  for (const MatrixInfo& matrix : manifest.matrices) {
    const uint32_t last = matrix.first_tile + matrix.tile_count;
    for (uint32_t begin = matrix.first_tile; begin < last;) {
      uint32_t end = begin + 1;
      if (wanted[begin]) {
        while (end < last && wanted[end] &&
               manifest.tiles[end].offset == page_end(manifest.tiles[end - 1])) {
          ++end;
        }
        visit(begin, end);
      }
      begin = end;
    }
  }
}

void choose_decoded(const Manifest& manifest, const PlanOptions& options, Plan& plan) {
  plan.decoded.assign(manifest.tiles.size(), false);
  if (!options.decode_resident || plan.streamed_bytes > 0) return;
  for (size_t t = 0; t < manifest.tiles.size(); ++t) {
    const TileInfo& tile = manifest.tiles[t];
    if (tile.codec == CodecId::kRaw) continue;
    const uint64_t more = tile.raw_bytes - std::min(tile.raw_bytes, tile.stored_bytes);
    if (plan.resident_bytes + more > plan.budget_bytes) return;
    plan.resident_bytes += more;
    plan.decoded[t] = true;
  }
}

/// Tiles lie as far from each other as in the file, whole pages, but for decoded ones, which follow
/// each other without a gap.
void place_resident(const Manifest& manifest, const std::vector<bool>& resident, Plan& plan) {
  plan.arena_offsets.assign(manifest.tiles.size(), 0);
  for_each_run(manifest, resident, [&](uint32_t begin, uint32_t end) {
    for (uint32_t t = begin; t < end; ++t) {
      plan.arena_offsets[t] = plan.arena_bytes;
      plan.arena_bytes += arena_tile(manifest, plan, t).stored_bytes;
      const bool last = t + 1 == end;
      if (last) plan.arena_bytes += kReadableTail;
      const bool joined = !last && plan.decoded[t] && plan.decoded[t + 1];
      if (!joined) plan.arena_bytes = align_up(plan.arena_bytes, kPageBytes);
    }
  });
}

/// Bytes of the ring that the plan chooses: small beside what streams.
uint64_t ring_limit(const Plan& plan, const PlanOptions& options) {
  return std::min(ring_limit_bytes(options),
                  std::max(plan.streamed_bytes / kRingShare, kSmallRingBytes));
}

/// Size that requests grow to. Large requests and many of them keep a disk busy; the ring bounds
/// their product. Slots are no larger than layers need, so that lm_head does not make them few.
uint64_t request_limit(const Manifest& manifest, const Plan& plan, const PlanOptions& options) {
  uint64_t largest = kSmallRequestBytes;
  for (const MatrixInfo& matrix : manifest.matrices) {
    if (matrix.layer < 0) continue;
    const TileInfo& last = manifest.tiles[matrix.first_tile + matrix.tile_count - 1];
    largest = std::max(largest, page_end(last) - manifest.tiles[matrix.first_tile].offset);
  }
  const uint64_t slots = options.streamed_home == Home::kHost ? kHostSlots : kDiskSlots;
  const uint64_t slot = ring_limit(plan, options) / slots;
  const uint64_t tail = std::min(slot, kPageBytes);  // readable after the last row
  return std::max<uint64_t>(1, std::min({options.request_bytes, slot - tail, largest}));
}

void append_request(const Manifest& manifest, uint32_t first, uint32_t end, uint32_t group,
                    Plan& plan) {
  const TileInfo& head = manifest.tiles[first];
  const TileInfo& last = manifest.tiles[end - 1];
  const TransferRequest request = first_tiles(manifest,
                                              {.first_tile = first,
                                               .tile_count = end - first,
                                               .group = group,
                                               .home = static_cast<uint32_t>(plan.requests.size())},
                                              end - first);
  const uint64_t used = last.offset + last.stored_bytes - head.offset;
  plan.ring_slot_bytes = std::max(plan.ring_slot_bytes, align_up(used + kReadableTail, kPageBytes));
  plan.read_bytes += request.size_bytes;
  plan.requests.push_back(request);
}

void make_requests(const Manifest& manifest, const std::vector<bool>& streamed,
                   const PlanOptions& options, Plan& plan) {
  std::vector<uint32_t> group_of(manifest.matrices.size());
  const std::vector<MatrixGroup> groups = manifest.groups();
  for (uint32_t g = 0; g < groups.size(); ++g) {
    for (uint32_t i = 0; i < groups[g].matrix_count; ++i) group_of[groups[g].first_matrix + i] = g;
  }
  const uint64_t limit = request_limit(manifest, plan, options);
  for_each_run(manifest, streamed, [&](uint32_t begin, uint32_t end) {
    const uint32_t group = group_of[manifest.tiles[begin].matrix];
    while (begin < end) {
      const auto bytes_to = [&](uint32_t tile) {
        return page_end(manifest.tiles[tile]) - manifest.tiles[begin].offset;
      };
      // About as few requests as the limit allows, of nearly the same size.
      const uint64_t left = bytes_to(end - 1);
      const uint64_t share = left / ((left + limit - 1) / limit);
      uint32_t next = begin + 1;
      while (next < end && bytes_to(next) <= share) ++next;
      append_request(manifest, begin, next, group, plan);
      begin = next;
    }
  });
}

/// Counts the requests before lm_head, and those that every use of the tiles has in common: all of
/// them, or, if the host may take shares, as much as the link brings while one pass is followed by
/// the next. The host has nothing to do meanwhile.
void count_requests(const Manifest& manifest, bool host_shares, Plan& plan) {
  const auto is_body = [&](const TransferRequest& request) {
    const TileInfo& tile = manifest.tiles[request.first_tile];
    return manifest.matrices[tile.matrix].role != Role::kLmHead;
  };
  plan.body_requests = static_cast<uint32_t>(std::ranges::count_if(plan.requests, is_body));
  if (!host_shares) {
    plan.common_requests = plan.body_requests;
    return;
  }
  constexpr uint64_t kRingDivisor = 16;
  constexpr uint64_t kLeastDivisor = 8;
  uint64_t left = std::min(plan.ring_bytes() / kRingDivisor, plan.read_bytes / kLeastDivisor);
  while (left > 0 && plan.common_requests < plan.body_requests) {
    left -= std::min(left, plan.requests[plan.common_requests++].size_bytes);
  }
}

void size_ring(const PlanOptions& options, Plan& plan) {
  if (plan.requests.empty()) return;
  if (options.ring_requests != 0) {
    plan.ring_requests = options.ring_requests;
    return;
  }
  const uint64_t slots = ring_limit(plan, options) / plan.ring_slot_bytes;
  plan.ring_requests =
      static_cast<int32_t>(std::clamp<uint64_t>(slots, kFewestChosenSlots, kMostChosenSlots));
}

double milliseconds(double amount, double giga_per_second) {
  return giga_per_second > 0 ? amount / giga_per_second / 1e6 : 0;
}

/// Divides what link_ms stands for between link and host, where the host takes part.
void predict_shares(const Manifest& manifest, const MachineProfile& profile,
                    const PlanOptions& options, Plan& plan) {
  if (!options.host_shares || plan.requests.empty()) return;
  const HostBalance balance(manifest, plan, profile, options.canonical_rows);
  plan.host_share = balance.shares();
  const size_t c = shared_class(plan.batch_size);
  if (c == kSharedRows.size() || plan.host_share[c] == 0) return;
  const SharedPass pass = balance.predict(c);
  plan.link_ms = pass.link_ms;
  plan.host_ms = pass.host_ms;
}

void predict(const Manifest& manifest, const MachineProfile& profile, const PlanOptions& options,
             Plan& plan) {
  double multiply_adds = 0;
  for (const MatrixInfo& matrix : manifest.matrices) {
    multiply_adds += static_cast<double>(matrix.rows) * static_cast<double>(matrix.k);
  }
  const auto rows = static_cast<double>(plan.batch_size);
  plan.link_ms = milliseconds(static_cast<double>(plan.read_bytes), profile.link_gbps);
  plan.memory_ms = milliseconds(static_cast<double>(plan.streamable_bytes), profile.memory_gbps);
  plan.compute_ms = milliseconds(2 * multiply_adds * rows, profile.matmul_gflops);
  predict_shares(manifest, profile, options, plan);
  plan.predicted_pass_ms = std::max({plan.link_ms, plan.host_ms, plan.memory_ms, plan.compute_ms});
  const bool streams = !plan.requests.empty();
  if (streams && plan.predicted_pass_ms == std::max(plan.link_ms, plan.host_ms)) {
    plan.bound = plan.host_ms > 0 ? Bound::kHostAndLink : Bound::kLink;
  } else {
    plan.bound = plan.memory_ms >= plan.compute_ms ? Bound::kMemory : Bound::kCompute;
  }
}

void check_options(const PlanOptions& options) {
  const int32_t slots = options.ring_requests;
  if (slots != 0 && (slots < 2 || slots > kMostRingSlots)) {
    fail(ErrorCode::kInvalidArgument,
         "[plan] a ring of {} requests cannot stream: use 2 to {}, or 0 to let the plan choose",
         slots, kMostRingSlots);
  }
  if (options.batch_size < 1) {
    fail(ErrorCode::kInvalidArgument, "[plan] a batch of {} cannot run: use 1 or more",
         options.batch_size);
  }
}

}  // namespace

TileInfo arena_tile(const Manifest& manifest, const Plan& plan, uint32_t tile) {
  TileInfo info = manifest.tiles[tile];
  if (!plan.decoded[tile]) return info;
  const MatrixInfo& matrix = manifest.matrices[info.matrix];
  info.codec = CodecId::kRaw;
  info.codec_version = codec_version_of(CodecId::kRaw);
  info.row_stride_bytes = static_cast<uint32_t>(row_stride_bytes(matrix.k, matrix.dtype));
  info.stored_bytes = static_cast<uint64_t>(info.rows) * info.row_stride_bytes;
  return info;
}

TransferRequest first_tiles(const Manifest& manifest, const TransferRequest& request,
                            uint32_t tiles) {
  TransferRequest first = request;
  const TileInfo& head = manifest.tiles[request.first_tile];
  const TileInfo& last = manifest.tiles[request.first_tile + tiles - 1];
  first.tile_count = tiles;
  first.offset = head.offset;
  first.size_bytes = page_end(last) - head.offset;
  first.payload_bytes = 0;
  for (uint32_t t = 0; t < tiles; ++t) {
    first.payload_bytes += manifest.tiles[request.first_tile + t].payload_bytes();
  }
  return first;
}

const char* bound_name(Bound bound) {
  switch (bound) {
    case Bound::kLink:
      return "link";
    case Bound::kMemory:
      return "memory";
    case Bound::kCompute:
      return "compute";
    case Bound::kHostAndLink:
      return "host and link";
  }
  return "";
}

uint64_t ring_limit_bytes(const PlanOptions& options) {
  if (options.ring_limit_bytes != 0) return options.ring_limit_bytes;
  return options.streamed_home == Home::kHost ? kHostRingBytes : kDiskRingBytes;
}

uint64_t resolve_budget(const WeightBudget& budget, uint64_t streamable_bytes) {
  if (budget.bytes) return std::min(*budget.bytes, streamable_bytes);
  const double percent = budget.percent.value_or(1.0);
  if (!(percent >= 0.0 && percent <= 1.0)) {
    fail(ErrorCode::kInvalidArgument,
         "[plan] gpu_weights_percent {} is out of range: use a value between 0.0 and 1.0", percent);
  }
  const double bytes = std::floor(percent * static_cast<double>(streamable_bytes));
  return std::min(static_cast<uint64_t>(bytes), streamable_bytes);
}

Plan make_plan(const Manifest& manifest, const MachineProfile& profile,
               const PlanOptions& options) {
  check_options(options);
  Plan plan;
  plan.batch_size = options.batch_size;
  plan.streamable_bytes = manifest.streamable_bytes();
  plan.budget_bytes = resolve_budget(options.budget, plan.streamable_bytes);
  const std::vector<bool> resident = spread_residency(manifest, plan.budget_bytes);
  plan.homes.reserve(resident.size());
  std::vector<bool> streamed(resident.size());
  for (size_t t = 0; t < resident.size(); ++t) {
    streamed[t] = !resident[t];
    plan.homes.push_back(resident[t] ? Home::kDevice : options.streamed_home);
    (resident[t] ? plan.resident_bytes : plan.streamed_bytes) += manifest.tiles[t].payload_bytes();
  }
  choose_decoded(manifest, options, plan);
  place_resident(manifest, resident, plan);
  make_requests(manifest, streamed, options, plan);
  size_ring(options, plan);
  count_requests(manifest, options.host_shares, plan);
  predict(manifest, profile, options, plan);
  return plan;
}

std::string gpu_weights_percent_line(const Plan& plan, const WeightBudget& budget) {
  const double percent = budget.percent.value_or(
      plan.streamable_bytes == 0
          ? 1.0
          : static_cast<double>(plan.budget_bytes) / static_cast<double>(plan.streamable_bytes));
  std::string text = fmt::format("{}", percent);
  if (text.find_first_not_of("0123456789") == std::string::npos) text += ".0";
  return fmt::format(
      "Set gpu weights percent to {}, which is {} bytes. Valid range: 0 bytes ~ {} bytes.", text,
      plan.budget_bytes, plan.streamable_bytes);
}

}  // namespace headrace
