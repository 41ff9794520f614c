#include "stream/bulk_read.h"

#include <array>
#include <optional>
#include <vector>

#include "base/progress.h"
#include "base/thread_pool.h"
#include "base/trace.h"

namespace headrace {
namespace {

/// One bulk_read() in progress.
class BulkReader {
 public:
  BulkReader(std::span<const BulkPiece> pieces, Link& link, TileCheck& check,
             const BulkTarget& target, ThreadPool& pool)
      : pieces_(pieces),
        link_(link),
        check_(check),
        target_(target),
        pool_(pool),
        places_(pieces.size()) {}

  bool busy() const { return in_flight_ > 0 || (started_ < pieces_.size() && !failure_); }
  uint64_t read_bytes() const { return read_bytes_; }
  const std::optional<Error>& failure() const { return failure_; }

  void start_some() {
    while (in_flight_ < link_.depth() && started_ < pieces_.size() && !failure_) {
      const BulkPiece& piece = pieces_[started_];
      places_[started_] = target_.place(started_);
      const int error = link_.start({.offset = piece.offset,
                                     .to = {places_[started_], piece.size_bytes},
                                     .tag = static_cast<uint32_t>(started_)});
      if (error == 0) {
        ++started_;
        ++in_flight_;
      } else {
        failure_ = check_.check(piece.first_tile, piece.tile_count, nullptr, error);
      }
    }
  }

  void wait_for_some() {
    if (in_flight_ == 0) return;
    std::array<Completion, kAtOnce> completions;
    std::array<std::optional<Error>, kAtOnce> failures;
    const size_t count = link_.wait(completions);
    if (!failure_) {
      pool_.parallel_for(static_cast<int64_t>(count), 1, [&](int64_t begin, int64_t end) {
        for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
          const BulkPiece& piece = pieces_[completions[i].tag];
          failures[i] = check_.check(piece.first_tile, piece.tile_count,
                                     places_[completions[i].tag], completions[i].error);
        }
      });
    }
    for (size_t i = 0; i < count; ++i) finish(completions[i].tag, failures[i]);
  }

 private:
  static constexpr size_t kAtOnce = 64;  // completions

  void finish(uint32_t piece, const std::optional<Error>& failure) {
    --in_flight_;
    if (!failure_) failure_ = failure;
    if (failure_) return;
    read_bytes_ += pieces_[piece].size_bytes;
    try {
      target_.arrived(piece, places_[piece]);
    } catch (const Error& error) {
      failure_ = error;  // thrown when nothing is in flight any more
    }
  }

  const std::span<const BulkPiece> pieces_;
  Link& link_;
  TileCheck& check_;
  const BulkTarget& target_;
  ThreadPool& pool_;
  std::vector<std::byte*> places_;
  size_t started_ = 0;
  int in_flight_ = 0;
  uint64_t read_bytes_ = 0;
  std::optional<Error> failure_;
};

}  // namespace

uint64_t bulk_read(std::span<const BulkPiece> pieces, Link& link, TileCheck& check,
                   const BulkTarget& target, const char* title, Context& context) {
  uint64_t total = 0;
  for (const BulkPiece& piece : pieces) total += piece.size_bytes;
  if (total == 0) return 0;
  TraceSpan span(context.trace, title, "stream");
  span.set_bytes(total);
  context.progress.start(title, total, "bytes");
  BulkReader reader(pieces, link, check, target, context.pool);
  while (reader.busy()) {
    reader.start_some();
    reader.wait_for_some();
    context.progress.update(reader.read_bytes());
  }
  context.progress.finish();
  if (reader.failure()) throw Error(*reader.failure());
  return reader.read_bytes();
}

}  // namespace headrace
