#pragma once

#include <memory>
#include <string>

#include "stream/link.h"
#include "stream/stream_options.h"

namespace headrace {

/// A link that reads a file, past the page cache and many requests deep: with io_uring, or with
/// `depth` threads in pread() where the system refuses io_uring; buffered where the file system
/// refuses O_DIRECT. description() says what was chosen and why. Error{kInvalidArgument} if the
/// options force what the system refuses, {kIo} if the file cannot be opened.
std::unique_ptr<Link> open_disk_link(const std::string& path, int depth,
                                     const StreamOptions& options);

}  // namespace headrace
