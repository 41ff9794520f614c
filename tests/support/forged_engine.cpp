#include "tests/support/forged_engine.h"

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include <xxhash.h>

#include "base/error.h"
#include "base/file.h"
#include "engine/engine_reader.h"
#include "engine/format.h"
#include "engine/manifest_codec.h"
#include "tests/support/golden.h"

namespace headrace::testing {
namespace {

/// Code 0 for every element of a row.
void clear_codes(const RowLayout& layout, std::span<std::byte> row) {
  HR_CHECK(layout.escape_capacity < static_cast<uint64_t>(layout.k));
  for (int64_t g = 0; g < layout.groups(); ++g) {
    const int64_t chunks = layout.chunks_of(g);
    const auto lows = static_cast<uint64_t>(chunks * RowLayout::kChunk);
    const auto words = static_cast<uint64_t>(RowLayout::code_words(layout.codec, chunks));
    const auto codes = row.subspan(layout.group_offset(g) + lows,
                                   words * static_cast<uint64_t>(RowLayout::kLanes) * 4);
    std::ranges::fill(codes, std::byte{0});
  }
}

/// Puts the manifest, which is as long as before, and its hash in their places.
void put_manifest(const Manifest& manifest, std::span<std::byte> file) {
  FileHeader header =
      parse_header(file.first<FileHeader::kBytes>(), file.size(), "the engine to forge");
  const std::vector<std::byte> bytes = serialize_manifest(manifest);
  HR_CHECK(bytes.size() == header.manifest_bytes);
  header.manifest_xxh3 = XXH3_64bits(bytes.data(), bytes.size());
  std::ranges::copy(bytes, file.subspan(header.manifest_offset).begin());
  std::ranges::copy(serialize_header(header), file.begin());
}

}  // namespace

uint32_t forge_escapes(const std::string& engine_dir) {
  FileSystem& fs = posix_file_system();
  Manifest manifest = Engine::open(fs, engine_dir).manifest();
  const auto coded = std::ranges::find_if(
      manifest.tiles, [](const TileInfo& tile) { return tile.codec != CodecId::kRaw; });
  HR_CHECK(coded != manifest.tiles.end());
  const std::string path = join_path(engine_dir, "rank0.engine");
  std::string text = read_file(path);
  const std::span file = std::as_writable_bytes(std::span(text));
  const auto tile = file.subspan(coded->offset, coded->stored_bytes);
  clear_codes(manifest.row_layout(*coded), tile.last(coded->row_stride_bytes));
  coded->xxh3 = XXH3_64bits(tile.data(), tile.size());
  put_manifest(manifest, file);
  append_text(*fs.create(path), text);
  return static_cast<uint32_t>(coded - manifest.tiles.begin());
}

}  // namespace headrace::testing
