#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/safetensors.h"

namespace headrace {

/// Reads the JSON header of a safetensors file without building a tree of it. `data_offset` is
/// where the data begin in a file of `file_bytes`. Entries come in the order of their data.
/// Error{kCorrupt} or {kUnsupported} naming `path`.
std::vector<TensorEntry> parse_safetensors_header(std::string_view json_text, uint64_t data_offset,
                                                  uint64_t file_bytes, const std::string& path);

}  // namespace headrace
