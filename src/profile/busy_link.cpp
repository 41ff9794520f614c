#include "profile/busy_link.h"

#include <algorithm>
#include <vector>

#include "base/thread_pool.h"

namespace headrace {
namespace {

constexpr uint64_t kPieceBytes = uint64_t{16} << 20;
constexpr int kPieces = 8;
constexpr int kTurns = 4;  // of all pieces, enqueued together: the link does not wait for the host
constexpr const char* kPurpose = "measurement of the link";

}  // namespace

BusyLink::BusyLink(Backend& backend, const Clock& clock)
    : clock_(clock),
      to_(backend.allocate(kPieces * kPieceBytes, kPurpose)),
      from_(backend, allocate_host(kPieces * kPieceBytes, kPurpose)),
      queue_(backend.make_copy_queue(kPieces)) {
  std::ranges::fill(from_.bytes(), std::byte{1});
  thread_ = std::thread([this] { copy(); });
}

BusyLink::~BusyLink() {
  stop_.store(true);
  thread_.join();
}

double BusyLink::gbps() const {
  return static_cast<double>(bytes_.load()) /
         static_cast<double>(std::max<int64_t>(busy_ns_.load(), 1));
}

void BusyLink::copy() {
  const std::vector<int> processors = usable_processors();
  if (!processors.empty()) bind_this_thread(processors.front());
  while (!stop_.load()) {
    const int64_t begin_ns = clock_.now_ns();
    for (int i = 0; i < kTurns * kPieces; ++i) {
      const int piece = i % kPieces;
      const uint64_t at = static_cast<uint64_t>(piece) * kPieceBytes;
      queue_->fill(piece, to_.data() + at, from_.bytes().subspan(at, kPieceBytes));
    }
    queue_->synchronize();
    busy_ns_.fetch_add(clock_.now_ns() - begin_ns);
    bytes_.fetch_add(kTurns * kPieces * kPieceBytes);
  }
}

}  // namespace headrace
