#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/manifest.h"
#include "plan/machine_profile.h"

namespace headrace {

/// How many bytes of weights may live in fast memory. Exactly one of the two is set.
struct WeightBudget {
  std::optional<double> percent = 1.0;  // share of streamable bytes, 0.0 to 1.0
  std::optional<uint64_t> bytes = {};   // at most streamable bytes count
};

/// budget.bytes, or floor(percent x streamable). Error{kInvalidArgument} for a percent outside
/// [0, 1] or not a number.
uint64_t resolve_budget(const WeightBudget& budget, uint64_t streamable_bytes);

/// Where a tile rests between passes. kDevice: in fast memory.
enum class Home : uint8_t { kDevice, kHost, kDisk };

struct PlanOptions {
  WeightBudget budget = {};
  Home streamed_home = Home::kDisk;             // of the tiles that are not resident
  int64_t batch_size = 1;                       // token rows of a decode pass, for the prediction
  uint64_t request_bytes = uint64_t{32} << 20;  // neighbours travel together up to this size
  int32_t ring_requests = 0;                    // slots of the ring; 0: chosen by the plan
  uint64_t ring_limit_bytes = 0;  // of the ring that the plan chooses; 0: what streamed_home needs
  bool decode_resident = false;   // what is left of the budget when nothing streams: for this
  bool host_shares = false;       // the host may multiply some of the tiles (pass_use.h),
  int64_t canonical_rows = 0;     // in passes of up to so many token rows; 0: of any number
};

/// PlanOptions::ring_limit_bytes, or what a ring takes at most that streams from `streamed_home`.
uint64_t ring_limit_bytes(const PlanOptions& options);

/// Neighbouring non-resident tiles of one matrix that travel as one transfer.
struct TransferRequest {
  uint32_t first_tile = 0;
  uint32_t tile_count = 0;
  uint32_t group = 0;          // index into Manifest::groups()
  uint64_t offset = 0;         // in the engine file, a multiple of 4096
  uint64_t size_bytes = 0;     // read from the file: a multiple of 4096, padding included
  uint64_t payload_bytes = 0;  // sum of the tiles'
  uint32_t home = 0;           // index of the plan's request whose first tiles these are
};

/// The first `tiles` tiles of a request. REQUIRES: 1 <= tiles <= request.tile_count.
TransferRequest first_tiles(const Manifest& manifest, const TransferRequest& request,
                            uint32_t tiles);

/// Token rows of the passes in which the host takes a share: a use for passes of up to 1, 2, 4 and
/// 8 rows each. In larger ones everything streams.
inline constexpr std::array<int64_t, 4> kSharedRows = {1, 2, 4, 8};

/// By class of kSharedRows: the share of the payload that is not resident which the host multiplies
/// where it lies, 0 to 1.
using HostShares = std::array<double, kSharedRows.size()>;

/// What bounds a predicted pass.
enum class Bound : uint8_t { kLink, kMemory, kCompute, kHostAndLink };

/// "link", "memory", "compute" or "host and link", which share a pass.
const char* bound_name(Bound bound);

struct Plan {
  uint64_t streamable_bytes = 0;
  uint64_t budget_bytes = 0;
  uint64_t resident_bytes = 0;  // what resident tiles take of the budget, as they lie there
  uint64_t streamed_bytes = 0;  // payload of the others, leased by a full pass
  uint64_t read_bytes = 0;      // what a full pass reads for them, padding included
  std::vector<Home> homes;      // by tile
  std::vector<bool> decoded;    // by tile: it lies in the arena as a raw tile (arena_tile())

  /// Place of each resident tile in the arena (undefined for others). Tiles that are neighbours in
  /// the file are neighbours here, so that runs join.
  std::vector<uint64_t> arena_offsets;
  uint64_t arena_bytes = 0;  // resident tiles with their padding

  std::vector<TransferRequest> requests;  // one full pass, in order
  uint32_t body_requests = 0;             // those before lm_head: every pass has them
  uint32_t common_requests = 0;           // the first, which every use streams (pass_use.h)
  HostShares host_share = {};             // at first; what passes show corrects it (HostBalance)
  int32_t ring_requests = 0;              // slots; 0 when nothing streams
  uint64_t ring_slot_bytes = 0;
  uint64_t ring_bytes() const { return static_cast<uint64_t>(ring_requests) * ring_slot_bytes; }

  // A decode pass of batch_size rows. Link, host, memory and arithmetic work at the same time, so
  // the pass takes as long as the slowest of them needs.
  int64_t batch_size = 1;
  double link_ms = 0;
  double host_ms = 0;  // of the share that the host multiplies; 0: it takes none
  double memory_ms = 0;
  double compute_ms = 0;
  double predicted_pass_ms = 0;
  Bound bound = Bound::kLink;
};

/// Pure function of its arguments. Residency follows the spread rule: every matrix keeps the same
/// share, as nearly as whole tiles allow, as a prefix of its rows; where tiles have several sizes,
/// smaller ones that come later use up what is left. The budget that stays unused is less than the
/// smallest tile that is not resident. Coded tiles lie there as they are, so that more of them do;
/// once all do, what is left of the budget goes to decoded ones (decode_resident), from the first
/// layer on: raw rows multiply quicker. A larger budget never keeps less. Error{kInvalidArgument}
/// for options that cannot be honoured (ring_requests of 1, say), with what would work.
Plan make_plan(const Manifest& manifest, const MachineProfile& profile, const PlanOptions& options);

/// A resident tile as it lies in the arena: coded tiles that the plan decodes are raw there.
TileInfo arena_tile(const Manifest& manifest, const Plan& plan, uint32_t tile);

/// "Set gpu weights percent to 0.2, which is 123 bytes. Valid range: 0 bytes ~ 615 bytes."
std::string gpu_weights_percent_line(const Plan& plan, const WeightBudget& budget);

}  // namespace headrace
