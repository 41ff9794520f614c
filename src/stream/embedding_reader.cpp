#include "stream/embedding_reader.h"

#include <algorithm>
#include <cstring>

#include <xxhash.h>

#include "base/context.h"
#include "base/error.h"
#include "base/trace.h"

namespace headrace {

EmbeddingReader::EmbeddingReader(const Engine& engine, WeightStream& stream)
    : engine_(engine),
      stream_(stream),
      file_(engine.open_weights(stream.context().fs)),
      row_bytes_(static_cast<uint64_t>(engine.model().hidden_size) *
                 dtype_size(engine.model().dtype)),
      stored_row_(engine.manifest().embedding.row_stride_bytes) {
  file_->expect_random_reads();
}

EmbeddingReader::Place EmbeddingReader::place_of(int32_t id) const {
  if (id < 0 || id >= engine_.model().vocab_size) {
    fail(ErrorCode::kInvalidArgument, "[stream] token {} is not in the vocabulary: use 0 to {}", id,
         engine_.model().vocab_size - 1);
  }
  const Manifest& manifest = engine_.manifest();
  if (!manifest.embedding.tied) {
    return {.offset = manifest.embedding.offset +
                      static_cast<uint64_t>(id) * manifest.embedding.row_stride_bytes};
  }
  const MatrixInfo& head = manifest.matrices.back();
  const auto tiles = std::span(manifest.tiles).subspan(head.first_tile, head.tile_count);
  const auto after = std::ranges::upper_bound(tiles, id, {}, &TileInfo::row_begin);
  const TileInfo& tile = *(after - 1);
  const uint64_t in_tile = static_cast<uint64_t>(id - tile.row_begin) * tile.row_stride_bytes;
  const auto index = static_cast<uint32_t>(&tile - manifest.tiles.data());
  const std::byte* const resident = stream_.resident_tile(index);
  return {.resident = resident == nullptr ? nullptr : resident + in_tile,
          .offset = tile.offset + in_tile};
}

void EmbeddingReader::gather(std::span<const int32_t> ids, std::byte* out) {
  TraceSpan span(stream_.context().trace, "embedding", "stream");
  span.set_bytes(ids.size() * row_bytes_);
  // The system fetches all rows at once while the first are waited for.
  for (const int32_t id : ids) {
    const Place place = place_of(id);
    if (place.resident == nullptr && ids.size() > 1) file_->will_need(place.offset, row_bytes_);
  }
  for (const int32_t id : ids) {
    read_row(place_of(id), id, {out, row_bytes_});
    out += row_bytes_;
  }
}

void EmbeddingReader::read_row(const Place& place, int32_t id, std::span<std::byte> out) {
  if (place.resident != nullptr) {
    stream_.backend().download(out, place.resident);
    stream_.count_embedding(row_bytes_, 0);
    return;
  }
  if (engine_.manifest().embedding.tied) {
    file_->read(place.offset, out);
    stream_.count_embedding(row_bytes_, row_bytes_);
    return;
  }
  file_->read(place.offset, stored_row_);
  stream_.count_embedding(row_bytes_, stored_row_.size());
  uint64_t checksum = 0;
  const auto stored = std::span(stored_row_).last<sizeof(checksum)>();
  for (size_t i = 0; i < sizeof(checksum); ++i) {
    checksum |= std::to_integer<uint64_t>(stored[i]) << (8 * i);
  }
  if (XXH3_64bits(stored_row_.data(), row_bytes_) != checksum) {
    fail(ErrorCode::kCorrupt,
         "[stream] embedding row {} of {} at byte {} does not match its checksum: build the engine "
         "again",
         id, file_->path(), place.offset);
  }
  std::memcpy(out.data(), stored_row_.data(), row_bytes_);
}

}  // namespace headrace
