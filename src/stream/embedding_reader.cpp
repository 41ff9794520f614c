#include "stream/embedding_reader.h"

#include <algorithm>
#include <cstring>

#include <xxhash.h>

#include "base/context.h"
#include "base/error.h"
#include "base/thread_pool.h"
#include "base/trace.h"
#include "codec/row_code.h"

namespace headrace {
namespace {

constexpr int64_t kRowsAtATime = 64;           // that a thread reads
constexpr int64_t kCopiedAtATime = 64 * 1024;  // bytes that a thread copies

/// Most bytes of a row in the file that is not just its elements.
uint64_t longest_stored_row(const Manifest& manifest) {
  if (!manifest.embedding.tied) return manifest.embedding.row_stride_bytes;
  const MatrixInfo& head = manifest.matrices.back();
  uint64_t longest = 0;
  for (const TileInfo& tile : std::span(manifest.tiles).subspan(head.first_tile, head.tile_count)) {
    longest = std::max<uint64_t>(longest, tile.row_stride_bytes);
  }
  return longest;
}

}  // namespace

EmbeddingReader::EmbeddingReader(const Engine& engine, WeightStream& stream)
    : engine_(engine),
      stream_(stream),
      file_(engine.open_weights(stream.context().fs)),
      row_bytes_(static_cast<uint64_t>(engine.model().hidden_size) *
                 dtype_size(engine.model().dtype)),
      stored_row_(longest_stored_row(engine.manifest())) {
  if (stream.backend().has_own_memory()) {
    load_table();
  } else {
    file_->expect_random_reads();
  }
}

void EmbeddingReader::load_table() {
  const int64_t vocab = engine_.model().vocab_size;
  TraceSpan span(stream_.context().trace, "load the embedding table", "stream");
  span.set_bytes(static_cast<uint64_t>(vocab) * row_bytes_);
  Buffer table =
      allocate_host(static_cast<size_t>(vocab) * row_bytes_, "the token embedding table");
  const bool tied = engine_.manifest().embedding.tied;
  stream_.context().pool.parallel_for(vocab, kRowsAtATime, [&](int64_t begin, int64_t end) {
    std::vector<std::byte> stored(stored_row_.size());
    for (int64_t id = begin; id < end; ++id) {
      const Place place = place_of(static_cast<int32_t>(id));
      const std::span<std::byte> row =
          table.bytes().subspan(static_cast<size_t>(id) * row_bytes_, row_bytes_);
      if (tied) {
        read_tied_row(place, stored, row);
      } else {
        read_untied_row(place.offset, static_cast<int32_t>(id), stored, row);
      }
    }
  });
  table_ = std::move(table);
}

void EmbeddingReader::gather_from_table(std::span<const int32_t> ids, std::byte* out) {
  const auto rows_at_a_time =
      std::max<int64_t>(1, kCopiedAtATime / static_cast<int64_t>(row_bytes_));
  stream_.context().pool.parallel_for(
      static_cast<int64_t>(ids.size()), rows_at_a_time, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const auto id = static_cast<size_t>(ids[static_cast<size_t>(i)]);
          std::memcpy(out + static_cast<size_t>(i) * row_bytes_, table_.data() + id * row_bytes_,
                      row_bytes_);
        }
      });
  stream_.count_embedding(ids.size() * row_bytes_, 0);
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
  Place place = {.resident = resident == nullptr ? nullptr : resident + in_tile,
                 .offset = tile.offset + in_tile};
  if (tile.codec != CodecId::kRaw) place.code = manifest.row_layout(tile);
  return place;
}

void EmbeddingReader::decode(const RowLayout& code, std::span<const std::byte> stored,
                             std::span<std::byte> out) {
  decode_row(code, stored.data(),
             {reinterpret_cast<uint16_t*>(out.data()), out.size() / sizeof(uint16_t)});
}

void EmbeddingReader::gather(std::span<const int32_t> ids, std::byte* out) {
  TraceSpan span(stream_.context().trace, "embedding", "stream");
  span.set_bytes(ids.size() * row_bytes_);
  if (table_.size_bytes() > 0) {
    for (const int32_t id : ids) place_of(id);  // in the vocabulary?
    return gather_from_table(ids, out);
  }
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
    const std::span stored =
        place.code ? std::span(stored_row_).first(place.code->stride_bytes) : out;
    stream_.backend().download(stored, place.resident);
    if (place.code) decode(*place.code, stored, out);
    stream_.count_embedding(row_bytes_, 0);
    return;
  }
  if (engine_.manifest().embedding.tied) {
    read_tied_row(place, stored_row_, out);
    stream_.count_embedding(row_bytes_, place.code ? place.code->stride_bytes : row_bytes_);
    return;
  }
  read_untied_row(place.offset, id, stored_row_, out);
  stream_.count_embedding(row_bytes_, stored_row_.size());
}

/// Reads a row of lm_head into `out`, by way of `stored` if it is coded.
void EmbeddingReader::read_tied_row(const Place& place, std::span<std::byte> stored,
                                    std::span<std::byte> out) const {
  if (!place.code) return file_->read(place.offset, out);
  const std::span coded = stored.first(place.code->stride_bytes);
  file_->read(place.offset, coded);
  decode(*place.code, coded, out);
}

/// Reads a row and its checksum into `stored`, compares them, and copies the row to `out`.
void EmbeddingReader::read_untied_row(uint64_t offset, int32_t id, std::span<std::byte> stored,
                                      std::span<std::byte> out) const {
  file_->read(offset, stored);
  uint64_t checksum = 0;
  const auto trailer = stored.last<sizeof(checksum)>();
  for (size_t i = 0; i < sizeof(checksum); ++i) {
    checksum |= std::to_integer<uint64_t>(trailer[i]) << (8 * i);
  }
  if (XXH3_64bits(stored.data(), row_bytes_) != checksum) {
    fail(ErrorCode::kCorrupt,
         "[stream] embedding row {} of {} at byte {} does not match its checksum: build the engine "
         "again",
         id, file_->path(), offset);
  }
  std::memcpy(out.data(), stored.data(), row_bytes_);
}

}  // namespace headrace
