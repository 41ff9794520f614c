#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/context.h"
#include "base/thread_pool.h"
#include "device/buffer.h"
#include "engine/manifest.h"
#include "kernels/backend.h"
#include "kernels/weights.h"
#include "plan/plan.h"
#include "stream/bulk_read.h"
#include "stream/link.h"
#include "stream/tile_check.h"

namespace headrace {

/// The arena: resident tiles where the plan places them, decoded where it says so. Immutable once
/// loaded.
class ResidentWeights {
 public:
  /// Allocates the arena. `manifest` and `plan` must outlive it.
  ResidentWeights(const Manifest& manifest, const Plan& plan, Backend& backend);

  /// Reads and checks all resident tiles (stream/bulk_read.h). Returns the bytes read.
  uint64_t load(Link& link, TileCheck& check, Context& context);

  /// The resident rows of a group, neighbours joined.
  std::span<const WeightRun> runs(uint32_t group) const { return runs_[group]; }
  /// Where a tile lies; null if it is not resident.
  const std::byte* tile(uint32_t tile) const;

 private:
  /// Tiles that are neighbours in the file and in the arena.
  std::vector<BulkPiece> pieces() const;
  bool continues(const BulkPiece& piece, uint32_t tile) const;
  uint64_t arena_bytes(const BulkPiece& piece) const;
  bool is_decoded(const BulkPiece& piece) const;
  uint64_t load_staged(std::span<const BulkPiece> pieces, Link& link, TileCheck& check,
                       Context& context);
  void decode(const BulkPiece& piece, const std::byte* stored, std::byte* out,
              ThreadPool& pool) const;
  std::byte* place(const BulkPiece& piece) const;

  const Manifest& manifest_;
  const Plan& plan_;
  Backend& backend_;
  Buffer arena_;
  std::vector<std::vector<WeightRun>> runs_;  // by group
};

}  // namespace headrace
