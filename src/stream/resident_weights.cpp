#include "stream/resident_weights.h"

#include <array>
#include <optional>

#include "base/progress.h"
#include "base/trace.h"
#include "stream/weight_runs.h"

namespace headrace {
namespace {

constexpr uint64_t kPageBytes = 4096;
constexpr uint64_t kChunkBytes = uint64_t{16} << 20;

}  // namespace

ResidentWeights::ResidentWeights(const Manifest& manifest, const Plan& plan, Backend& backend)
    : manifest_(manifest),
      plan_(plan),
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

std::vector<ResidentWeights::Chunk> ResidentWeights::chunks() const {
  std::vector<Chunk> chunks;
  const auto count = static_cast<uint32_t>(manifest_.tiles.size());
  for (uint32_t t = 0; t < count; ++t) {
    if (tile(t) == nullptr) continue;
    const TileInfo& info = manifest_.tiles[t];
    const uint64_t stored = (info.stored_bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
    if (!chunks.empty()) {
      Chunk& last = chunks.back();
      const TileInfo& first = manifest_.tiles[last.first_tile];
      const bool neighbour = last.first_tile + last.tile_count == t &&
                             info.offset == first.offset + last.size_bytes &&
                             tile(t) == tile(last.first_tile) + last.size_bytes;
      if (neighbour && last.size_bytes + stored <= kChunkBytes) {
        last.size_bytes += stored;
        ++last.tile_count;
        continue;
      }
    }
    chunks.push_back({.first_tile = t, .tile_count = 1, .size_bytes = stored});
  }
  return chunks;
}

uint64_t ResidentWeights::load(Link& link, TileCheck& check, Context& context) {
  const std::vector<Chunk> pieces = chunks();
  uint64_t total = 0;
  for (const Chunk& piece : pieces) total += piece.size_bytes;
  if (total == 0) return 0;

  TraceSpan span(context.trace, "load resident weights", "stream");
  span.set_bytes(total);
  context.progress.start("Loading resident weights", total, "bytes");
  std::optional<Error> failure;
  uint64_t loaded = 0;
  size_t started = 0;
  int in_flight = 0;
  std::array<Completion, 64> completions;
  while (in_flight > 0 || (started < pieces.size() && !failure)) {
    while (in_flight < link.depth() && started < pieces.size() && !failure) {
      const Chunk& piece = pieces[started];
      const int error = link.start(
          {.offset = manifest_.tiles[piece.first_tile].offset,
           .to = {arena_.data() + plan_.arena_offsets[piece.first_tile], piece.size_bytes},
           .tag = static_cast<uint32_t>(started)});
      if (error == 0) {
        ++started;
        ++in_flight;
      } else {
        failure = check.check(piece.first_tile, piece.tile_count, nullptr, error);
      }
    }
    if (in_flight == 0) break;
    const size_t count = link.wait(completions);
    for (size_t i = 0; i < count; ++i, --in_flight) {
      const Chunk& piece = pieces[completions[i].tag];
      if (!failure) {
        failure = check.check(piece.first_tile, piece.tile_count, tile(piece.first_tile),
                              completions[i].error);
      }
      loaded += piece.size_bytes;
    }
    context.progress.update(loaded);
  }
  context.progress.finish();
  if (failure) throw Error(*failure);
  return loaded;
}

}  // namespace headrace
