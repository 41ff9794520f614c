#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/manifest.h"
#include "plan/plan.h"

namespace headrace {

/// The class of passes of so many token rows; kSharedRows.size() where the host takes no share.
size_t shared_class(int64_t tokens);

/// Neighbouring tiles of one matrix.
struct TileRange {
  uint32_t first_tile = 0;
  uint32_t tile_count = 0;
  uint32_t group = 0;  // index into Manifest::groups()
};

/// How the passes of one class use the tiles that are not resident. Homes are fixed by the plan,
/// uses are not.
struct PassUse {
  std::vector<TransferRequest> requests = {};  // what streams, in order; group by group
  uint32_t body = 0;                           // those before lm_head
  std::vector<TileRange> host = {};            // what the host multiplies, in order
  uint64_t streamed_bytes = 0;                 // payload
  uint64_t host_bytes = 0;
};

/// Everything streams.
PassUse stream_all(const Plan& plan);

/// The host takes `share` of the payload: of every group the last tiles, as nearly as whole tiles
/// allow, what is over or under goes to the next. Nothing of the plan's common requests, so that
/// these are the first of every use: a ring may fetch them before it knows what the next pass will
/// be.
PassUse share_with_host(const Manifest& manifest, const Plan& plan, double share);

}  // namespace headrace
