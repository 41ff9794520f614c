#include <algorithm>

#include "device/copy_queue.h"
#include "profile/measure.h"
#include "stream/pinned_buffer.h"

namespace headrace {
namespace {

constexpr uint64_t kPieceBytes = uint64_t{16} << 20;
constexpr int kPieces = 16;
constexpr int kRounds = 6;

}  // namespace

double measure_copy_gbps(Backend& backend, const Clock& clock) {
  const Buffer to = backend.allocate(kPieces * kPieceBytes, "measurement of the link");
  const PinnedBuffer from(backend, allocate_host(kPieces * kPieceBytes, "measurement of the link"));
  std::ranges::fill(from.bytes(), std::byte{1});
  const std::unique_ptr<CopyQueue> queue = backend.make_copy_queue(kPieces);
  double best = 0;
  for (int round = 0; round < kRounds; ++round) {
    const int64_t begin_ns = clock.now_ns();
    for (int piece = 0; piece < kPieces; ++piece) {
      const uint64_t at = static_cast<uint64_t>(piece) * kPieceBytes;
      queue->fill(piece, to.data() + at, from.bytes().subspan(at, kPieceBytes));
    }
    queue->synchronize();
    const auto elapsed_ns = static_cast<double>(std::max<int64_t>(clock.now_ns() - begin_ns, 1));
    best = std::max(best, static_cast<double>(kPieces * kPieceBytes) / elapsed_ns);
  }
  return best;
}

}  // namespace headrace
