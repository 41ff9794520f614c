#include "stream/bulk_read.h"

#include <array>
#include <optional>
#include <vector>

#include "base/progress.h"
#include "base/trace.h"

namespace headrace {
namespace {

/// One bulk_read() in progress.
class BulkReader {
 public:
  BulkReader(std::span<const BulkPiece> pieces, Link& link, TileCheck& check,
             const BulkTarget& target)
      : pieces_(pieces), link_(link), check_(check), target_(target), places_(pieces.size()) {}

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
    std::array<Completion, 64> completions;
    const size_t count = link_.wait(completions);
    for (size_t i = 0; i < count; ++i) finish(completions[i]);
  }

 private:
  void finish(const Completion& completion) {
    --in_flight_;
    const BulkPiece& piece = pieces_[completion.tag];
    std::byte* const memory = places_[completion.tag];
    if (failure_) return;
    failure_ = check_.check(piece.first_tile, piece.tile_count, memory, completion.error);
    if (failure_) return;
    read_bytes_ += piece.size_bytes;
    target_.arrived(completion.tag, memory);
  }

  const std::span<const BulkPiece> pieces_;
  Link& link_;
  TileCheck& check_;
  const BulkTarget& target_;
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
  BulkReader reader(pieces, link, check, target);
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
