#include "engine/format.h"

#include <algorithm>
#include <string>

#include <xxhash.h>

#include "base/error.h"
#include "engine/little_endian.h"

namespace headrace {

int64_t rows_per_tile(int64_t k, DType dtype, uint64_t tile_bytes) {
  const uint64_t stride = row_stride_bytes(k, dtype);
  const uint64_t smallest = kTileRows * stride;
  uint64_t quantum = smallest;
  while (quantum % kPageBytes != 0) quantum *= 2;
  if (quantum > tile_bytes) quantum = smallest;
  const uint64_t quanta = std::max<uint64_t>(tile_bytes / quantum, 1);
  return static_cast<int64_t>(quanta * quantum / stride);
}

// Byte by byte (little endian):
//    0  char[8]  "HRENGINE"
//    8  u32      container version
//   12  u32      meaning version
//   16  u64      manifest offset
//   24  u64      manifest bytes
//   32  u64      XXH3-64 of the manifest
//   40  u64      file bytes
//   48  u32      rank
//   52  u32      ranks
//   56  u64      XXH3-64 of bytes 0 to 55
std::array<std::byte, FileHeader::kBytes> serialize_header(const FileHeader& header) {
  LittleEndianWriter out;
  out.put_bytes(std::as_bytes(std::span(kMagic)));
  out.put(kContainerVersion);
  out.put(kMeaningVersion);
  out.put(header.manifest_offset);
  out.put(header.manifest_bytes);
  out.put(header.manifest_xxh3);
  out.put(header.file_bytes);
  out.put(uint32_t{0});
  out.put(uint32_t{1});
  out.put(uint64_t{XXH3_64bits(out.bytes().data(), out.bytes().size())});
  std::array<std::byte, FileHeader::kBytes> bytes;
  HR_CHECK(out.bytes().size() == bytes.size());
  std::copy(out.bytes().begin(), out.bytes().end(), bytes.begin());
  return bytes;
}

FileHeader parse_header(std::span<const std::byte, FileHeader::kBytes> bytes, uint64_t file_bytes,
                        std::string_view where) {
  if (!std::ranges::equal(bytes.first(kMagic.size()), std::as_bytes(std::span(kMagic)))) {
    fail(ErrorCode::kCorrupt,
         "[engine] {} is not an engine's weight file: 'headrace build' makes one", where);
  }
  LittleEndianReader in(bytes.subspan(kMagic.size()));
  const auto container = in.take<uint32_t>();
  const auto meaning = in.take<uint32_t>();
  if (container != kContainerVersion || meaning != kMeaningVersion) {
    fail(ErrorCode::kUnsupported,
         "[engine] {} has format version {}.{}, this program reads {}.{}: build the engine again",
         where, container, meaning, kContainerVersion, kMeaningVersion);
  }
  FileHeader header;
  header.manifest_offset = in.take<uint64_t>();
  header.manifest_bytes = in.take<uint64_t>();
  header.manifest_xxh3 = in.take<uint64_t>();
  header.file_bytes = in.take<uint64_t>();
  const auto rank = in.take<uint32_t>();
  const auto ranks = in.take<uint32_t>();
  const size_t hashed = FileHeader::kBytes - sizeof(uint64_t);
  if (in.take<uint64_t>() != XXH3_64bits(bytes.data(), hashed)) {
    fail(ErrorCode::kCorrupt, "[engine] {} has a damaged header: build the engine again", where);
  }
  if (rank != 0 || ranks != 1) {
    fail(ErrorCode::kUnsupported, "[engine] {} is part {} of {}: only engines of one part are read",
         where, rank, ranks);
  }
  if (header.file_bytes != file_bytes) {
    fail(ErrorCode::kCorrupt, "[engine] {} holds {} bytes where {} belong: truncated?", where,
         file_bytes, header.file_bytes);
  }
  if (file_bytes % kPageBytes != 0 || header.manifest_offset % kPageBytes != 0 ||
      header.manifest_offset < kPageBytes || header.manifest_offset > file_bytes ||
      header.manifest_bytes > file_bytes - header.manifest_offset ||
      header.manifest_bytes > kMaxManifestBytes) {
    fail(ErrorCode::kCorrupt,
         "[engine] {} places its manifest at byte {}, {} bytes long, in a file of {}", where,
         header.manifest_offset, header.manifest_bytes, file_bytes);
  }
  return header;
}

}  // namespace headrace
