#pragma once

#include <string>
#include <vector>

#include "base/context.h"
#include "engine/engine_reader.h"

namespace headrace {

/// Reads every tile, embedding row and vector of an engine and compares it with its checksum, and
/// the escapes of coded rows with their room. Returns the names of those that differ, and of tiles
/// whose checksum is right but whose rows have too many escapes, in the file's order; empty: the
/// engine is whole. Reports bytes through context.progress. Error{kIo} if the file cannot be read.
std::vector<std::string> verify_engine(const Engine& engine, Context& context);

}  // namespace headrace
