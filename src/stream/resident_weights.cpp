#include "stream/resident_weights.h"

#include <memory>

#include "device/copy_queue.h"
#include "stream/pinned_buffer.h"
#include "stream/weight_runs.h"

namespace headrace {
namespace {

constexpr uint64_t kPageBytes = 4096;
constexpr uint64_t kPieceBytes = uint64_t{16} << 20;

}  // namespace

ResidentWeights::ResidentWeights(const Manifest& manifest, const Plan& plan, Backend& backend)
    : manifest_(manifest),
      plan_(plan),
      backend_(backend),
      arena_(backend.allocate(plan.arena_bytes, "resident weights")) {
  for (const MatrixGroup& group : manifest.groups()) {
    std::vector<WeightRun>& runs = runs_.emplace_back();
    for (uint32_t m = group.first_matrix; m < group.first_matrix + group.matrix_count; ++m) {
      const MatrixInfo& matrix = manifest.matrices[m];
      for (uint32_t t = matrix.first_tile; t < matrix.first_tile + matrix.tile_count; ++t) {
        if (tile(t) != nullptr) append_run(manifest, t, group.first_matrix, tile(t), runs);
      }
    }
  }
}

const std::byte* ResidentWeights::tile(uint32_t tile) const {
  return plan_.homes[tile] == Home::kDevice ? arena_.data() + plan_.arena_offsets[tile] : nullptr;
}

std::vector<BulkPiece> ResidentWeights::pieces() const {
  std::vector<BulkPiece> pieces;
  const auto count = static_cast<uint32_t>(manifest_.tiles.size());
  for (uint32_t t = 0; t < count; ++t) {
    if (tile(t) == nullptr) continue;
    const TileInfo& info = manifest_.tiles[t];
    const uint64_t stored = (info.stored_bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
    if (!pieces.empty()) {
      BulkPiece& last = pieces.back();
      const TileInfo& first = manifest_.tiles[last.first_tile];
      const bool neighbour = last.first_tile + last.tile_count == t &&
                             info.offset == first.offset + last.size_bytes &&
                             tile(t) == tile(last.first_tile) + last.size_bytes;
      if (neighbour && last.size_bytes + stored <= kPieceBytes) {
        last.size_bytes += stored;
        ++last.tile_count;
        continue;
      }
    }
    pieces.push_back(
        {.first_tile = t, .tile_count = 1, .offset = info.offset, .size_bytes = stored});
  }
  return pieces;
}

uint64_t ResidentWeights::load(Link& link, TileCheck& check, Context& context) {
  const std::vector<BulkPiece> pieces = this->pieces();
  if (pieces.empty()) return 0;
  if (backend_.has_own_memory()) return load_staged(pieces, link, check, context);
  const BulkTarget target = {
      .place = [&](size_t i) { return place(pieces[i]); },
      .arrived = [](size_t, std::byte*) {},
  };
  return bulk_read(pieces, link, check, target, "Loading resident weights", context);
}

/// Through pinned host memory, a slot for each read in flight: while a slot's bytes are copied to
/// the device, others are being read.
uint64_t ResidentWeights::load_staged(std::span<const BulkPiece> pieces, Link& link,
                                      TileCheck& check, Context& context) {
  const auto slots = static_cast<size_t>(link.depth()) + 1;
  const PinnedBuffer staging(backend_, allocate_host(slots * kPieceBytes, "staging of weights"));
  const std::unique_ptr<CopyQueue> queue = backend_.make_copy_queue(static_cast<int>(slots));
  std::vector<size_t> free_slots;
  std::vector<bool> filled(slots);
  for (size_t slot = slots; slot > 0; --slot) free_slots.push_back(slot - 1);
  const BulkTarget target = {
      .place =
          [&](size_t) {
            const size_t slot = free_slots.front();  // given back longest ago
            free_slots.erase(free_slots.begin());
            if (filled[slot]) queue->wait(static_cast<int>(slot));
            return staging.bytes().data() + slot * kPieceBytes;
          },
      .arrived =
          [&](size_t i, std::byte* memory) {
            const auto slot = static_cast<size_t>(memory - staging.bytes().data()) / kPieceBytes;
            queue->fill(static_cast<int>(slot), place(pieces[i]), {memory, pieces[i].size_bytes});
            filled[slot] = true;
            free_slots.push_back(slot);
          },
  };
  const uint64_t bytes =
      bulk_read(pieces, link, check, target, "Loading resident weights", context);
  queue->synchronize();
  return bytes;
}

std::byte* ResidentWeights::place(const BulkPiece& piece) const {
  return arena_.data() + plan_.arena_offsets[piece.first_tile];
}

}  // namespace headrace
