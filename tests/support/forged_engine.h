#pragma once

#include <cstdint>
#include <string>

namespace headrace::testing {

/// Takes the codes of the last row of the engine's first coded tile away, so that all its elements
/// are escapes, for which there is no room. Checksums of tile and manifest are made right. Returns
/// the tile's index. REQUIRES: there is such a tile.
uint32_t forge_escapes(const std::string& engine_dir);

}  // namespace headrace::testing
