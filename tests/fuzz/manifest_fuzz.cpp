// The manifest and header of an engine's weight file. Input: u64 size of the file, u64 place of the
// manifest (little endian), then the manifest's bytes; their hash is made to fit, so that the
// fuzzer gets behind it.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <xxhash.h>

#include "base/error.h"
#include "engine/format.h"
#include "engine/little_endian.h"
#include "engine/manifest_check.h"
#include "engine/manifest_codec.h"

namespace headrace {
namespace {

/// What every reader of a manifest computes with it must stay inside the file.
void use(const Manifest& manifest) {
  HR_CHECK(manifest.streamable_bytes() <= manifest.file_bytes);
  uint32_t matrices = 0;
  for (const MatrixGroup& group : manifest.groups()) matrices += group.matrix_count;
  HR_CHECK(matrices == manifest.matrices.size());
  for (const TileInfo& tile : manifest.tiles) {
    HR_CHECK(tile.offset + tile.stored_bytes <= manifest.file_bytes);
    HR_CHECK(tile.matrix < manifest.matrices.size());
  }
  for (const VectorInfo& vector : manifest.vectors) {
    HR_CHECK(vector.offset + 4 * static_cast<uint64_t>(vector.count) <= manifest.file_bytes);
  }
}

/// A model that the manifest might be of: what it says itself.
ModelConfig claimed_config(const Manifest& manifest) {
  ModelConfig config;
  const MatrixInfo& head = manifest.matrices.back();
  config.dtype = head.dtype;
  config.vocab_size = head.rows;
  config.hidden_size = head.k;
  config.num_hidden_layers = static_cast<int64_t>(manifest.matrices.size() / 5);
  config.num_attention_heads = config.num_key_value_heads = 1;
  config.head_size = manifest.matrices.front().rows / 3;
  config.intermediate_size = manifest.matrices.size() > 4 ? manifest.matrices[4].k : 1;
  config.tie_word_embeddings = manifest.embedding.tied;
  return config;
}

void parse(std::span<const std::byte> data) {
  if (data.size() < 16) return;
  LittleEndianReader in(data);
  FileHeader header;
  header.file_bytes = in.take<uint64_t>();
  header.manifest_offset = in.take<uint64_t>();
  header.manifest_bytes = in.rest().size();
  header.manifest_xxh3 = XXH3_64bits(in.rest().data(), in.rest().size());
  header = parse_header(serialize_header(header), header.file_bytes, "fuzz");
  const Manifest manifest = parse_manifest(in.rest(), header, "fuzz");
  use(manifest);
  const std::vector<std::byte> again = serialize_manifest(manifest);
  HR_CHECK(std::equal(again.begin(), again.end(), in.rest().begin(), in.rest().end()));
  validate_manifest(manifest, claimed_config(manifest), "fuzz");
}

}  // namespace
}  // namespace headrace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    headrace::parse(std::as_bytes(std::span(data, size)));
  } catch (const headrace::Error& error) {
    if (error.code() == headrace::ErrorCode::kInternal) __builtin_trap();
  }
  return 0;
}
