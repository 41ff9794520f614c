#pragma once

#include <memory>

#include "engine/engine_reader.h"
#include "stream/link.h"
#include "stream/stream_options.h"

namespace headrace {

/// A link that carries an engine's weight file: the disk link on it; or, for a synthetic engine,
/// `threads` threads that make the bytes up. At least `depth` transfers deep. `engine` must outlive
/// it. Error{kInvalidArgument} for options that cannot be honoured, {kIo} if the file cannot be
/// opened.
std::unique_ptr<Link> open_engine_link(const Engine& engine, int depth, int threads,
                                       const StreamOptions& options);

/// `options` with the default settled for this engine: a synthetic engine's tiles have no
/// checksums that could be compared.
StreamOptions settle_stream_options(const Engine& engine, StreamOptions options);

}  // namespace headrace
