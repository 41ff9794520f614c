#include "stream/bulk_read.h"

#include <array>
#include <exception>
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
  const std::exception_ptr& failure() const { return failure_; }

  void start_some() {
    while (in_flight_ < link_.depth() && started_ < pieces_.size() && !failure_) {
      try {
        start(static_cast<uint32_t>(started_));
      } catch (...) {
        failure_ = std::current_exception();
      }
    }
  }

  void wait_for_some() {
    if (in_flight_ == 0) return;
    std::array<Completion, kAtOnce> completions;
    const size_t count = link_.wait(completions);
    in_flight_ -= static_cast<int>(count);
    if (failure_) return;
    try {
      take(std::span(completions).first(count));
    } catch (...) {
      failure_ = std::current_exception();  // thrown when nothing is in flight any more
    }
  }

 private:
  static constexpr size_t kAtOnce = 64;  // completions

  void start(uint32_t index) {
    const BulkPiece& piece = pieces_[index];
    places_[index] = target_.place(index);
    const int error = link_.start(
        {.offset = piece.offset, .to = {places_[index], piece.size_bytes}, .tag = index});
    if (error != 0) check(index, error);
    ++started_;
    ++in_flight_;
  }

  void take(std::span<const Completion> completions) {
    pool_.parallel_for(static_cast<int64_t>(completions.size()), 1,
                       [&](int64_t begin, int64_t end) {
                         for (int64_t i = begin; i < end; ++i) {
                           const Completion& completion = completions[static_cast<size_t>(i)];
                           check(completion.tag, completion.error);
                         }
                       });
    for (const Completion& completion : completions) {
      read_bytes_ += pieces_[completion.tag].size_bytes;
      target_.arrived(completion.tag, places_[completion.tag]);
    }
  }

  /// Throws what is wrong with a piece that arrived, or did not.
  void check(uint32_t index, int error) const {
    const BulkPiece& piece = pieces_[index];
    const auto failure = check_.check(piece.first_tile, piece.tile_count, places_[index], error);
    if (failure) throw Error(*failure);
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
  std::exception_ptr failure_;
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
  if (reader.failure()) std::rethrow_exception(reader.failure());
  return reader.read_bytes();
}

}  // namespace headrace
