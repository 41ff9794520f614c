#include "stream/resident_weights.h"

#include <algorithm>
#include <memory>
#include <optional>

#include "device/copy_queue.h"
#include "engine/format.h"
#include "kernels/decode_rows.h"
#include "stream/pinned_buffer.h"
#include "stream/weight_runs.h"

namespace headrace {
namespace {

constexpr uint64_t kPieceBytes = uint64_t{16} << 20;
constexpr size_t kDecodedSlots = 4;  // that wait for their copies, while others are decoded into

/// Pinned host memory in slots, each of which is filled, then copied to the device.
class StagingSlots {
 public:
  StagingSlots(Backend& backend, size_t slots, uint64_t slot_bytes)
      : memory_(backend, allocate_host(slots * slot_bytes, "staging of weights")),
        queue_(backend.make_copy_queue(static_cast<int>(slots))),
        slot_bytes_(slot_bytes),
        copied_from_(slots) {
    for (size_t slot = slots; slot > 0; --slot) free_.push_back(slot - 1);
  }

  /// The slot that was given back longest ago, once it has been copied.
  std::byte* take() {
    const size_t slot = free_.front();
    free_.erase(free_.begin());
    if (copied_from_[slot]) queue_->wait(static_cast<int>(slot));
    copied_from_[slot] = false;
    return memory_.bytes().data() + slot * slot_bytes_;
  }
  void give_back(const std::byte* memory) { free_.push_back(slot_of(memory)); }
  /// Copies the slot's first bytes, and gives it back.
  void copy(const std::byte* memory, std::byte* to, uint64_t size_bytes) {
    const size_t slot = slot_of(memory);
    queue_->fill(static_cast<int>(slot), to, {memory, size_bytes});
    copied_from_[slot] = true;
    give_back(memory);
  }
  void synchronize() { queue_->synchronize(); }

 private:
  size_t slot_of(const std::byte* memory) const {
    return static_cast<size_t>(memory - memory_.bytes().data()) / slot_bytes_;
  }

  const PinnedBuffer memory_;
  const std::unique_ptr<CopyQueue> queue_;
  const uint64_t slot_bytes_;
  std::vector<size_t> free_;
  std::vector<bool> copied_from_;
};

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
        if (tile(t) == nullptr) continue;
        append_run(arena_tile(manifest, plan, t), group.first_matrix, tile(t), runs);
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
    const uint64_t stored = align_up(info.stored_bytes, kPageBytes);
    if (!pieces.empty() && continues(pieces.back(), t)) {
      BulkPiece longer = pieces.back();
      longer.size_bytes += stored;
      ++longer.tile_count;
      if (std::max(longer.size_bytes, arena_bytes(longer)) <= kPieceBytes) {
        pieces.back() = longer;
        continue;
      }
    }
    pieces.push_back(
        {.first_tile = t, .tile_count = 1, .offset = info.offset, .size_bytes = stored});
  }
  return pieces;
}

/// Whether a tile follows a piece in the file and in the arena, and lies there in the same way.
bool ResidentWeights::continues(const BulkPiece& piece, uint32_t tile) const {
  const uint64_t in_arena = is_decoded(piece) ? arena_bytes(piece) : piece.size_bytes;
  return piece.first_tile + piece.tile_count == tile &&
         manifest_.tiles[tile].offset == piece.offset + piece.size_bytes &&
         plan_.decoded[tile] == plan_.decoded[piece.first_tile] &&
         this->tile(tile) == this->tile(piece.first_tile) + in_arena;
}

/// What the rows of a piece take in the arena.
uint64_t ResidentWeights::arena_bytes(const BulkPiece& piece) const {
  uint64_t bytes = 0;
  for (uint32_t t = piece.first_tile; t < piece.first_tile + piece.tile_count; ++t) {
    bytes += arena_tile(manifest_, plan_, t).stored_bytes;
  }
  return bytes;
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
  uint64_t slot_bytes = 0;
  uint64_t decoded_bytes = 0;
  for (const BulkPiece& piece : pieces) {
    slot_bytes = std::max(slot_bytes, piece.size_bytes);
    if (is_decoded(piece)) decoded_bytes = std::max(decoded_bytes, arena_bytes(piece));
  }
  StagingSlots arriving(backend_, static_cast<size_t>(link.depth()) + 1, slot_bytes);
  std::optional<StagingSlots> decoded;
  if (decoded_bytes > 0) decoded.emplace(backend_, kDecodedSlots, decoded_bytes);
  const BulkTarget target = {
      .place = [&](size_t) { return arriving.take(); },
      .arrived =
          [&](size_t i, std::byte* memory) {
            const BulkPiece& piece = pieces[i];
            if (!is_decoded(piece)) return arriving.copy(memory, place(piece), piece.size_bytes);
            std::byte* const raw = decoded->take();
            decode(piece, memory, raw, context.pool);
            arriving.give_back(memory);
            decoded->copy(raw, place(piece), arena_bytes(piece));
          },
  };
  const uint64_t bytes =
      bulk_read(pieces, link, check, target, "Loading resident weights", context);
  arriving.synchronize();
  if (decoded) decoded->synchronize();
  return bytes;
}

bool ResidentWeights::is_decoded(const BulkPiece& piece) const {
  return plan_.decoded[piece.first_tile];
}

/// The rows of a piece, which begins at `stored`, as they lie in the arena.
void ResidentWeights::decode(const BulkPiece& piece, const std::byte* stored, std::byte* out,
                             ThreadPool& pool) const {
  for (uint32_t t = piece.first_tile; t < piece.first_tile + piece.tile_count; ++t) {
    const TileInfo& tile = manifest_.tiles[t];
    const MatrixInfo& matrix = manifest_.matrices[tile.matrix];
    const TileInfo raw = arena_tile(manifest_, plan_, t);
    const WeightRun run = {.data = stored + (tile.offset - piece.offset),
                           .rows = tile.rows,
                           .row_stride_bytes = tile.row_stride_bytes,
                           .codec = tile.codec};
    decode_rows(run, matrix.dtype, matrix.k, out, raw.row_stride_bytes, pool);
    out += raw.stored_bytes;
  }
}

std::byte* ResidentWeights::place(const BulkPiece& piece) const {
  return arena_.data() + plan_.arena_offsets[piece.first_tile];
}

}  // namespace headrace
