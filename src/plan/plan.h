#pragma once

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
  std::optional<uint64_t> bytes;        // at most streamable bytes count
};

/// budget.bytes, or floor(percent x streamable). Error{kInvalidArgument} for a percent outside
/// [0, 1] or not a number.
uint64_t resolve_budget(const WeightBudget& budget, uint64_t streamable_bytes);

struct PlanOptions {
  WeightBudget budget;
  int64_t batch_size = 1;                     // token rows of a decode pass, for the prediction
  uint64_t request_bytes = uint64_t{16} << 20;  // neighbours travel together up to this size
  int32_t ring_requests = 0;                  // slots of the ring; 0: chosen by the plan
  uint64_t ring_limit_bytes = uint64_t{128} << 20;  // bounds the choice when ring_requests is 0
};

/// Where a tile rests between passes. kDevice: in fast memory.
enum class Home : uint8_t { kDevice, kHost, kDisk };

/// Neighbouring non-resident tiles of one matrix that travel as one transfer.
struct TransferRequest {
  uint32_t first_tile = 0;
  uint32_t tile_count = 0;
  uint32_t group = 0;          // index into Manifest::groups()
  uint64_t offset = 0;         // in the engine file, a multiple of 4096
  uint64_t size_bytes = 0;     // read from the file: a multiple of 4096, padding included
  uint64_t payload_bytes = 0;  // sum of the tiles' raw bytes
};

/// What bounds a predicted pass.
enum class Bound : uint8_t { kLink, kMemory, kCompute };

struct Plan {
  uint64_t streamable_bytes = 0;
  uint64_t budget_bytes = 0;
  uint64_t resident_bytes = 0;  // raw bytes of resident tiles; budget - resident < one tile
  uint64_t streamed_bytes = 0;  // raw bytes of the others: payload leased by a full pass
  std::vector<Home> homes;      // by tile

  /// Place of each resident tile in the arena (undefined for others). Tiles that are neighbours in the
  /// file are neighbours here, so that runs join.
  std::vector<uint64_t> arena_offsets;
  uint64_t arena_bytes = 0;     // resident tiles with their padding

  std::vector<TransferRequest> requests;  // one full pass, in order
  int32_t ring_requests = 0;              // slots; 0 when nothing streams
  uint64_t ring_slot_bytes = 0;
  uint64_t ring_bytes() const { return static_cast<uint64_t>(ring_requests) * ring_slot_bytes; }

  double predicted_pass_ms = 0;  // a decode pass of batch_size rows
  Bound bound = Bound::kLink;
};

/// Pure function of its arguments. Residency follows the spread rule: every matrix keeps the same
/// share, as nearly as whole tiles allow, as a prefix of its rows. Error{kInvalidArgument} for options
/// that cannot be honoured (ring_requests of 1, say), with what would work.
Plan make_plan(const Manifest& manifest, const MachineProfile& profile, const PlanOptions& options);

}  // namespace headrace
