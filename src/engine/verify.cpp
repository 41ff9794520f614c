#include "engine/verify.h"

#include <algorithm>

#include <xxhash.h>

#include "base/error.h"
#include "base/progress.h"
#include "codec/row_code.h"
#include "engine/format.h"
#include "engine/hash.h"
#include "engine/little_endian.h"

namespace headrace {
namespace {

constexpr uint64_t kChunkBytes = uint64_t{4} << 20;

class Verifier {
 public:
  Verifier(const Engine& engine, Progress& progress) : engine_(engine), progress_(progress) {}

  std::vector<std::string> run() {
    const Manifest& manifest = engine_.manifest();
    progress_.start("verify", total_bytes(), "bytes");
    for (uint32_t t = 0; t < manifest.tiles.size(); ++t) verify_tile(t);
    if (!manifest.embedding.tied) verify_embedding();
    for (const VectorInfo& vector : manifest.vectors) {
      StreamingHash hash;
      for_pieces(vector.offset, static_cast<uint64_t>(vector.count), sizeof(float),
                 [&](std::span<const std::byte> values) { hash.update(values); });
      if (hash.digest() != vector.xxh3) {
        damaged_.push_back(vector.layer < 0
                               ? role_name(vector.role)
                               : fmt::format("layer {} {}", vector.layer, role_name(vector.role)));
      }
    }
    progress_.finish();
    return std::move(damaged_);
  }

 private:
  uint64_t total_bytes() const {
    const Manifest& manifest = engine_.manifest();
    uint64_t bytes =
        static_cast<uint64_t>(engine_.model().vocab_size) * manifest.embedding.row_stride_bytes;
    for (const TileInfo& tile : manifest.tiles) bytes += tile.stored_bytes;
    for (const VectorInfo& vector : manifest.vectors) {
      bytes += static_cast<uint64_t>(vector.count) * sizeof(float);
    }
    return bytes;
  }

  std::span<const std::byte> read(uint64_t offset, uint64_t bytes) {
    chunk_.resize(std::max<size_t>(chunk_.size(), bytes));
    const std::span piece = std::span(chunk_).first(bytes);
    engine_.file().read(offset, piece);
    progress_.update(done_ += bytes);
    return piece;
  }

  /// Calls `use` with the bytes of `count` items, some whole ones at a time.
  template <typename Use>
  void for_pieces(uint64_t offset, uint64_t count, uint64_t item_bytes, Use use) {
    const uint64_t at_once = std::max<uint64_t>(kChunkBytes / item_bytes, 1);
    for (uint64_t i = 0; i < count; i += at_once) {
      use(read(offset + i * item_bytes, std::min(at_once, count - i) * item_bytes));
    }
  }

  void verify_tile(uint32_t index) {
    const Manifest& manifest = engine_.manifest();
    const TileInfo& tile = manifest.tiles[index];
    const bool coded = tile.codec != CodecId::kRaw;
    const RowLayout layout = coded ? manifest.row_layout(tile) : RowLayout{};
    StreamingHash hash;
    bool fits = true;
    for_pieces(tile.offset, static_cast<uint64_t>(tile.rows), tile.row_stride_bytes,
               [&](std::span<const std::byte> rows) {
                 hash.update(rows);
                 fits = fits && (!coded || escapes_fit(layout, rows));
               });
    if (hash.digest() != tile.xxh3) {
      damaged_.push_back(tile_name(manifest, index));
    } else if (!fits) {
      damaged_.push_back(tile_name(manifest, index) + ": rows with more escapes than room");
    }
  }

  void verify_embedding() {
    const EmbeddingInfo& embedding = engine_.manifest().embedding;
    const uint64_t stride = embedding.row_stride_bytes;
    const uint64_t payload = row_bytes(engine_.model().hidden_size, engine_.model().dtype);
    const auto vocab = static_cast<uint64_t>(engine_.model().vocab_size);
    uint64_t row = 0;
    for_pieces(embedding.offset, vocab, stride, [&](std::span<const std::byte> rows) {
      for (; !rows.empty(); rows = rows.subspan(stride), ++row) {
        LittleEndianReader checksum{rows.first(stride).last(sizeof(uint64_t))};
        if (XXH3_64bits(rows.data(), payload) != checksum.take<uint64_t>()) {
          damaged_.push_back(fmt::format("embedding row {}", row));
        }
      }
    });
  }

  const Engine& engine_;
  Progress& progress_;
  uint64_t done_ = 0;
  std::vector<std::byte> chunk_;
  std::vector<std::string> damaged_;
};

}  // namespace

std::vector<std::string> verify_engine(const Engine& engine, Context& context) {
  return Verifier(engine, context.progress).run();
}

}  // namespace headrace
