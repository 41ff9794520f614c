#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "engine/format.h"
#include "engine/manifest.h"

namespace headrace {

/// The manifest's bytes as they stand in the file.
std::vector<std::byte> serialize_manifest(const Manifest& manifest);
/// How many bytes those are, by what the manifest holds.
uint64_t manifest_bytes(uint64_t matrices, uint64_t tiles, uint64_t vectors,
                        uint64_t parameter_bytes);

/// Reads a manifest and checks it against the file that `header` describes (check_manifest), so
/// that whatever is returned is consistent in itself. Says nothing about the model: see
/// validate_manifest. Error{kCorrupt} naming `where` and the entry.
Manifest parse_manifest(std::span<const std::byte> bytes, const FileHeader& header,
                        std::string_view where);

}  // namespace headrace
