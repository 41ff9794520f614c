#include "engine/verify.h"

#include <algorithm>

#include <xxhash.h>

#include "base/error.h"
#include "base/progress.h"
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
    for (uint32_t t = 0; t < manifest.tiles.size(); ++t) {
      const TileInfo& tile = manifest.tiles[t];
      if (hash_of(tile.offset, tile.stored_bytes) != tile.xxh3) {
        damaged_.push_back(tile_name(manifest, t));
      }
    }
    if (!manifest.embedding.tied) verify_embedding();
    for (const VectorInfo& vector : manifest.vectors) {
      if (hash_of(vector.offset, static_cast<uint64_t>(vector.count) * sizeof(float)) !=
          vector.xxh3) {
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

  uint64_t hash_of(uint64_t offset, uint64_t bytes) {
    StreamingHash hash;
    for (uint64_t read_bytes = 0; read_bytes < bytes;) {
      const uint64_t piece = std::min(kChunkBytes, bytes - read_bytes);
      hash.update(read(offset + read_bytes, piece));
      read_bytes += piece;
    }
    return hash.digest();
  }

  void verify_embedding() {
    const EmbeddingInfo& embedding = engine_.manifest().embedding;
    const uint64_t stride = embedding.row_stride_bytes;
    const uint64_t payload = row_bytes(engine_.model().hidden_size, engine_.model().dtype);
    const auto vocab = static_cast<uint64_t>(engine_.model().vocab_size);
    const uint64_t rows_at_once = std::max<uint64_t>(kChunkBytes / stride, 1);
    for (uint64_t row = 0; row < vocab; row += rows_at_once) {
      const uint64_t rows = std::min(rows_at_once, vocab - row);
      const auto bytes = read(embedding.offset + row * stride, rows * stride);
      for (uint64_t i = 0; i < rows; ++i) {
        const auto one = bytes.subspan(i * stride, stride);
        LittleEndianReader checksum{one.last(sizeof(uint64_t))};
        if (XXH3_64bits(one.data(), payload) != checksum.take<uint64_t>()) {
          damaged_.push_back(fmt::format("embedding row {}", row + i));
        }
      }
    }
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
