#pragma once

#include <bit>
#include <cstddef>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include <xxhash.h>

#include "engine/format.h"
#include "engine/manifest.h"
#include "engine/manifest_codec.h"
#include "tests/support/golden.h"

namespace headrace::testing {

/// The committed engine that tests/golden/engine_format.py wrote, as bytes.
struct GoldenEngine {
  std::string file = read_file(golden_path("engine_v1/rank0.engine"));
  FileHeader header = parse_header(std::as_bytes(std::span(file)).first<FileHeader::kBytes>(),
                                   file.size(), "golden");

  std::vector<std::byte> manifest_bytes() const {
    const auto bytes =
        std::as_bytes(std::span(file)).subspan(header.manifest_offset, header.manifest_bytes);
    return {bytes.begin(), bytes.end()};
  }
  Manifest manifest() const { return parse_manifest(manifest_bytes(), header, "golden"); }

  /// Reads forged manifest bytes as if the file held them, hash and all.
  Manifest parse_forged(std::span<const std::byte> bytes) const {
    FileHeader forged = header;
    forged.manifest_bytes = bytes.size();
    forged.manifest_xxh3 = XXH3_64bits(bytes.data(), bytes.size());
    return parse_manifest(bytes, forged, "forged");
  }
};

/// The golden script's weights: element `index` of tensor number `tensor`, as bfloat16 bits.
inline uint16_t golden_element(uint32_t tensor, uint32_t index) {
  uint32_t mixed = tensor * 0x9E3779B1u + index * 0x85EBCA6Bu;
  mixed ^= mixed >> 15;
  return static_cast<uint16_t>((mixed & 0x807Fu) | (0x3E00u + ((mixed >> 7) & 0x180u)));
}

}  // namespace headrace::testing
