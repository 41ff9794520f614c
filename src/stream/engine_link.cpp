#include "stream/engine_link.h"

#include <algorithm>
#include <cerrno>

#include "base/error.h"
#include "stream/disk_link.h"
#include "stream/thread_link.h"

namespace headrace {
namespace {

int make_up(const RandomAccessFile& file, const Transfer& transfer) {
  try {
    file.read(transfer.offset, transfer.to);
    return 0;
  } catch (const Error&) {
    return EIO;
  }
}

}  // namespace

std::unique_ptr<Link> open_engine_link(const Engine& engine, int depth, int threads,
                                       const StreamOptions& options) {
  if (!engine.is_synthetic()) return open_disk_link(engine.weights_path(), depth, options);
  if (options.io != IoMode::kAuto || options.direct != DirectMode::kAuto) {
    fail(ErrorCode::kInvalidArgument,
         "[stream] --io and --direct_io say how to read a file, and synthetic weights have none: "
         "leave them out");
  }
  const RandomAccessFile& file = engine.file();
  return std::make_unique<ThreadLink>(
      "synthetic weights", std::max(depth, threads), threads,
      [&file](const Transfer& transfer) { return make_up(file, transfer); });
}

StreamOptions settle_stream_options(const Engine& engine, StreamOptions options) {
  if (!engine.is_synthetic()) return options;
  if (options.verify == VerifyMode::kAlways) {
    fail(ErrorCode::kInvalidArgument,
         "[stream] --verify always: synthetic weights have no checksums: leave it out");
  }
  options.verify = VerifyMode::kNever;
  return options;
}

}  // namespace headrace
