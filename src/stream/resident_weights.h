#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/context.h"
#include "device/buffer.h"
#include "engine/manifest.h"
#include "kernels/backend.h"
#include "kernels/weights.h"
#include "plan/plan.h"
#include "stream/link.h"
#include "stream/tile_check.h"

namespace headrace {

/// The arena: resident tiles where the plan places them. Immutable once loaded.
class ResidentWeights {
 public:
  /// Allocates the arena. `manifest` and `plan` must outlive it.
  ResidentWeights(const Manifest& manifest, const Plan& plan, Backend& backend);

  /// Reads and checks all resident tiles, as many requests deep as the link goes, showing progress.
  /// Returns the bytes read. Throws what failed, when nothing is in flight any more.
  uint64_t load(Link& link, TileCheck& check, Context& context);

  /// The resident rows of a group, neighbours joined.
  std::span<const WeightRun> runs(uint32_t group) const { return runs_[group]; }
  /// Where a tile lies; null if it is not resident.
  const std::byte* tile(uint32_t tile) const;

 private:
  struct Chunk {  // neighbours in the file and in the arena, read at once
    uint32_t first_tile = 0;
    uint32_t tile_count = 0;
    uint64_t size_bytes = 0;
  };
  std::vector<Chunk> chunks() const;

  const Manifest& manifest_;
  const Plan& plan_;
  Buffer arena_;
  std::vector<std::vector<WeightRun>> runs_;  // by group
};

}  // namespace headrace
