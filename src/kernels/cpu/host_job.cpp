#include "kernels/cpu/host_job.h"

#include "base/error.h"

namespace headrace {
namespace {

constexpr int64_t kRowsAtOnce = 4;              // of a kernel; pieces are of so many each
constexpr int64_t kLeastPieceBytes = 8 * 1024;  // of weights
// Four rows may be more. Smaller ones end together sooner, but are counted more often.
constexpr int64_t kMostPieceBytes = 64 * 1024;
constexpr int64_t kPiecesOfThread = 48;
// Multiplied before they are handed over. What orders memory then waits until the results have left
// the core, while it asks for no more weights.
constexpr int64_t kBatchBytes = 192 * 1024;
constexpr int64_t kLateBytes = 128 * 1024;  // that a thread still has to multiply when it is late

/// Many pieces a thread, so that all end at nearly the same time, but none too small.
int64_t rows_of_a_piece(int64_t rows, int64_t bytes, int threads) {
  const int64_t piece_bytes =
      std::clamp(bytes / (kPiecesOfThread * threads), kLeastPieceBytes, kMostPieceBytes);
  return std::clamp(piece_bytes * rows / bytes / kRowsAtOnce * kRowsAtOnce, kRowsAtOnce,
                    HostJob::kMostBatchRows);
}

}  // namespace

void HostJob::set(const HostProduct& of_number, uint32_t number, int threads_that_take) {
  threads = threads_that_take;
  product = of_number;
  runs.assign(of_number.runs.begin(), of_number.runs.end());
  product.runs = runs;
  rows = 0;
  bytes = 0;
  for (const WeightRun& run : runs) {
    rows += run.rows;
    bytes += static_cast<uint64_t>(run.rows) * run.row_stride_bytes;
  }
  HR_CHECK(rows > 0);
  piece_rows = rows_of_a_piece(rows, static_cast<int64_t>(bytes), threads);
  pieces = static_cast<uint32_t>((rows + piece_rows - 1) / piece_rows);
  // About as long before the end as it takes a device to hear of it.
  const int64_t piece_bytes = static_cast<int64_t>(bytes) / pieces;
  batch_pieces = static_cast<uint32_t>(
      std::clamp<int64_t>(kBatchBytes / piece_bytes, 1, kMostBatchRows / piece_rows));
  const int64_t late = threads * (kLateBytes / piece_bytes + 1);
  late_piece = pieces > late ? pieces - static_cast<uint32_t>(late) : 0;
  count_pieces(number);
  begin_ns.store(0, std::memory_order_relaxed);
  next.store(0, std::memory_order_relaxed);
}

void HostJob::count_pieces(uint32_t number) {
  const uint32_t count = (pieces + Chapter::kPieces - 1) / Chapter::kPieces;
  if (settled.size() < pieces) {
    settled = std::vector<std::atomic<uint32_t>>(pieces);
    for (auto& piece : settled) piece.store(number - 1, std::memory_order_relaxed);
    chapters = std::vector<Chapter>(count);
  }
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t of_chapter = std::min(Chapter::kPieces, pieces - i * Chapter::kPieces);
    chapters[i].left.store(of_chapter, std::memory_order_relaxed);
  }
  chapters_left.store(count, std::memory_order_relaxed);
}

HostPieces HostJob::take() {
  const auto shares = static_cast<uint32_t>(2 * threads);
  uint32_t begin = next.load(std::memory_order_relaxed);
  while (begin < pieces) {
    const uint32_t end = begin + std::max(1u, (pieces - begin) / shares);
    if (next.compare_exchange_weak(begin, end, std::memory_order_relaxed)) return {begin, end};
  }
  return {};
}

HostPieces HostJob::next_batch(HostPieces of, uint32_t number) const {
  uint32_t begin = of.begin;
  while (begin < of.end && is_settled(begin, number)) ++begin;
  const uint32_t chapter_end = (begin / Chapter::kPieces + 1) * Chapter::kPieces;
  return {begin, std::min({begin + batch_pieces, of.end, chapter_end})};
}

uint32_t HostJob::settle(HostPieces batch, uint32_t number) {
  uint32_t mine = 0;
  for (uint32_t piece = batch.begin; piece < batch.end; ++piece) {
    const bool first = settled[piece].exchange(number, std::memory_order_relaxed) != number;
    mine |= static_cast<uint32_t>(first) << (piece - batch.begin);
  }
  return mine;
}

uint32_t HostJob::unsettled_from(uint32_t piece, uint32_t number) const {
  while (piece < pieces) {
    const uint32_t chapter = piece / Chapter::kPieces;
    if (chapters[chapter].left.load(std::memory_order_relaxed) == 0) {
      piece = (chapter + 1) * Chapter::kPieces;
    } else if (is_settled(piece, number)) {
      ++piece;
    } else {
      return piece;
    }
  }
  return pieces;
}

/// Those are done that were taken before the other threads took their last ones: take() leaves
/// about 3/5 when each has had its turn.
int64_t HostJob::rows_done_before(uint32_t taken) const {
  if (taken >= late_piece) return rows;
  const uint32_t begun = std::min(pieces, (pieces - taken) * 5 / 3);
  return (pieces - begun) * piece_rows;
}

}  // namespace headrace
