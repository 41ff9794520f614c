#include "engine/manifest_codec.h"

#include <limits>

#include <xxhash.h>

#include "base/error.h"
#include "engine/little_endian.h"
#include "engine/manifest_check.h"

// Byte by byte (little endian); the sections follow each other without gaps:
//
//   head, 64 bytes                         matrix, 40 bytes
//    0  u32  matrices                       0  i32  layer, -1: in none
//    4  u32  tiles                          4  u16  role
//    8  u32  vectors                        6  u8   dtype
//   12  u32  bytes of codec parameters      7  u8   0
//   16  u64  tile_bytes of the build        8  i32  expert, -1: none
//   24  u64  embedding offset, tied: 0     12  u32  first tile
//   32  u32  embedding row stride, 0       16  u32  tiles
//   36  u32  1 if the embedding is tied    20  u32  0
//   40  u64[3] 0                           24  i64  rows
//                                          32  i64  k
//   tile, 48 bytes
//    0  u64  offset                        vector, 32 bytes
//    8  u64  stored bytes                   0  i32  layer, -1: in none
//   16  u64  XXH3-64                        4  u16  role
//   24  u32  first row                      6  u16  0
//   28  u32  rows                           8  u64  values (float32)
//   32  u32  row stride                    16  u64  offset
//   36  u8   codec                         24  u64  XXH3-64
//   37  u8   codec version
//   38  u16  0                             codec parameters: bytes
//   40  u32  parameters' first byte
//   44  u32  parameters' bytes
namespace headrace {
namespace {

constexpr uint64_t kHeadBytes = 64;
constexpr uint64_t kMatrixBytes = 40;
constexpr uint64_t kTileBytes = 48;
constexpr uint64_t kVectorBytes = 32;

struct Counts {
  uint32_t matrices = 0;
  uint32_t tiles = 0;
  uint32_t vectors = 0;
  uint32_t parameter_bytes = 0;
};

class ManifestParser {
 public:
  ManifestParser(std::span<const std::byte> bytes, std::string_view where)
      : in_(bytes), bytes_(bytes.size()), where_(where) {}

  Manifest parse() {
    if (bytes_ < kHeadBytes) corrupt("its manifest is {} bytes long", bytes_);
    const Counts counts = take_head();
    for (uint32_t i = 0; i < counts.matrices; ++i) take_matrix(counts);
    if (next_tile_ != counts.tiles)
      corrupt("{} of its tiles belong to no matrix", counts.tiles - next_tile_);
    for (uint32_t m = 0; m < counts.matrices; ++m) {
      for (uint32_t t = 0; t < manifest_.matrices[m].tile_count; ++t) take_tile(m);
    }
    for (uint32_t i = 0; i < counts.vectors; ++i) take_vector();
    manifest_.codec_parameters.assign(in_.rest().begin(), in_.rest().end());
    return std::move(manifest_);
  }

 private:
  template <typename... Args>
  [[noreturn]] void corrupt(fmt::format_string<Args...> format, Args&&... args) const {
    fail(ErrorCode::kCorrupt, "[engine] {}: {}: build the engine again", where_,
         fmt::format(format, std::forward<Args>(args)...));
  }

  void expect_zero(uint64_t value) const {
    if (value != 0) corrupt("reserved bytes of its manifest are not zero");
  }

  Counts take_head() {
    Counts counts;
    counts.matrices = in_.take<uint32_t>();
    counts.tiles = in_.take<uint32_t>();
    counts.vectors = in_.take<uint32_t>();
    counts.parameter_bytes = in_.take<uint32_t>();
    manifest_.tile_bytes = in_.take<uint64_t>();
    manifest_.embedding.offset = in_.take<uint64_t>();
    manifest_.embedding.row_stride_bytes = in_.take<uint32_t>();
    const auto tied = in_.take<uint32_t>();
    for (int i = 0; i < 3; ++i) expect_zero(in_.take<uint64_t>());
    if (tied > 1) corrupt("its manifest neither ties the embedding nor leaves it");
    manifest_.embedding.tied = tied == 1;
    if (manifest_bytes(counts.matrices, counts.tiles, counts.vectors, counts.parameter_bytes) !=
        bytes_) {
      corrupt("its manifest lists {} matrices, {} tiles and {} vectors, which {} bytes cannot hold",
              counts.matrices, counts.tiles, counts.vectors, bytes_);
    }
    manifest_.matrices.reserve(counts.matrices);
    manifest_.tiles.reserve(counts.tiles);
    manifest_.vectors.reserve(counts.vectors);
    return counts;
  }

  void take_matrix(const Counts& counts) {
    const size_t index = manifest_.matrices.size();
    MatrixInfo matrix;
    matrix.layer = in_.take<int32_t>();
    matrix.role = static_cast<Role>(in_.take<uint16_t>());
    const auto dtype = in_.take<uint8_t>();
    expect_zero(in_.take<uint8_t>());
    matrix.expert = in_.take<int32_t>();
    matrix.first_tile = in_.take<uint32_t>();
    matrix.tile_count = in_.take<uint32_t>();
    expect_zero(in_.take<uint32_t>());
    matrix.rows = in_.take<int64_t>();
    matrix.k = in_.take<int64_t>();
    if (dtype > static_cast<uint8_t>(DType::kBFloat16))
      corrupt("matrix {} has dtype {}", index, dtype);
    matrix.dtype = static_cast<DType>(dtype);
    if (matrix.rows < 1 || matrix.rows > kMaxRows || matrix.k < 1 || matrix.k > kMaxColumns) {
      corrupt("matrix {} is {} x {}", index, matrix.rows, matrix.k);
    }
    if (matrix.first_tile != next_tile_ || matrix.tile_count > counts.tiles - next_tile_) {
      corrupt("matrix {} claims {} tiles from {} on", index, matrix.tile_count, matrix.first_tile);
    }
    next_tile_ += matrix.tile_count;
    manifest_.matrices.push_back(matrix);
  }

  void take_tile(uint32_t matrix) {
    const MatrixInfo& info = manifest_.matrices[matrix];
    TileInfo tile;
    tile.matrix = matrix;
    tile.offset = in_.take<uint64_t>();
    tile.stored_bytes = in_.take<uint64_t>();
    tile.xxh3 = in_.take<uint64_t>();
    tile.row_begin = in_.take<uint32_t>();
    tile.rows = in_.take<uint32_t>();
    tile.row_stride_bytes = in_.take<uint32_t>();
    tile.codec = static_cast<CodecId>(in_.take<uint8_t>());
    tile.codec_version = in_.take<uint8_t>();
    expect_zero(in_.take<uint16_t>());
    tile.parameters_begin = in_.take<uint32_t>();
    tile.parameters_size = in_.take<uint32_t>();
    tile.raw_bytes = static_cast<uint64_t>(tile.rows) * row_bytes(info.k, info.dtype);
    manifest_.tiles.push_back(tile);
  }

  void take_vector() {
    VectorInfo vector;
    vector.layer = in_.take<int32_t>();
    vector.role = static_cast<Role>(in_.take<uint16_t>());
    expect_zero(in_.take<uint16_t>());
    const auto count = in_.take<uint64_t>();
    vector.offset = in_.take<uint64_t>();
    vector.xxh3 = in_.take<uint64_t>();
    if (count < 1 || count > static_cast<uint64_t>(kMaxRows)) {
      corrupt("vector {} has {} values", manifest_.vectors.size(), count);
    }
    vector.count = static_cast<int64_t>(count);
    manifest_.vectors.push_back(vector);
  }

  LittleEndianReader in_;
  uint64_t bytes_;
  std::string_view where_;
  uint32_t next_tile_ = 0;
  Manifest manifest_;
};

void put_matrix(LittleEndianWriter& out, const MatrixInfo& matrix) {
  out.put(matrix.layer);
  out.put(static_cast<uint16_t>(matrix.role));
  out.put(static_cast<uint8_t>(matrix.dtype));
  out.put(uint8_t{0});
  out.put(matrix.expert);
  out.put(matrix.first_tile);
  out.put(matrix.tile_count);
  out.put(uint32_t{0});
  out.put(matrix.rows);
  out.put(matrix.k);
}

void put_tile(LittleEndianWriter& out, const TileInfo& tile) {
  out.put(tile.offset);
  out.put(tile.stored_bytes);
  out.put(tile.xxh3);
  out.put(static_cast<uint32_t>(tile.row_begin));
  out.put(static_cast<uint32_t>(tile.rows));
  out.put(tile.row_stride_bytes);
  out.put(static_cast<uint8_t>(tile.codec));
  out.put(tile.codec_version);
  out.put(uint16_t{0});
  out.put(tile.parameters_begin);
  out.put(tile.parameters_size);
}

void put_vector(LittleEndianWriter& out, const VectorInfo& vector) {
  out.put(vector.layer);
  out.put(static_cast<uint16_t>(vector.role));
  out.put(uint16_t{0});
  out.put(static_cast<uint64_t>(vector.count));
  out.put(vector.offset);
  out.put(vector.xxh3);
}

uint32_t checked_count(size_t count) {
  HR_CHECK(count <= std::numeric_limits<uint32_t>::max());
  return static_cast<uint32_t>(count);
}

}  // namespace

std::vector<std::byte> serialize_manifest(const Manifest& manifest) {
  LittleEndianWriter out;
  out.put(checked_count(manifest.matrices.size()));
  out.put(checked_count(manifest.tiles.size()));
  out.put(checked_count(manifest.vectors.size()));
  out.put(checked_count(manifest.codec_parameters.size()));
  out.put(manifest.tile_bytes);
  out.put(manifest.embedding.offset);
  out.put(manifest.embedding.row_stride_bytes);
  out.put(uint32_t{manifest.embedding.tied});
  for (int i = 0; i < 3; ++i) out.put(uint64_t{0});
  for (const MatrixInfo& matrix : manifest.matrices) put_matrix(out, matrix);
  for (const TileInfo& tile : manifest.tiles) put_tile(out, tile);
  for (const VectorInfo& vector : manifest.vectors) put_vector(out, vector);
  out.put_bytes(manifest.codec_parameters);
  return std::move(out.bytes());
}

uint64_t manifest_bytes(uint64_t matrices, uint64_t tiles, uint64_t vectors,
                        uint64_t parameter_bytes) {
  return kHeadBytes + matrices * kMatrixBytes + tiles * kTileBytes + vectors * kVectorBytes +
         parameter_bytes;
}

Manifest parse_manifest(std::span<const std::byte> bytes, const FileHeader& header,
                        std::string_view where) {
  if (bytes.size() != header.manifest_bytes ||
      XXH3_64bits(bytes.data(), bytes.size()) != header.manifest_xxh3) {
    fail(ErrorCode::kCorrupt, "[engine] {} has a damaged manifest: build the engine again", where);
  }
  Manifest manifest = ManifestParser(bytes, where).parse();
  manifest.file_bytes = header.file_bytes;
  check_manifest(manifest, header, where);
  return manifest;
}

}  // namespace headrace
