#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>
#include <vector>

#include "kernels/host_workers.h"

namespace headrace {

/// Neighbouring pieces of a product.
struct HostPieces {
  uint32_t begin = 0;
  uint32_t end = 0;
  bool empty() const { return begin == end; }
};

/// A product in the queue of the host's threads, cut into pieces of rows. Its place is used again
/// when all threads have left it: one that was held up may come back to it after its end. set() is
/// for one thread while no other looks; the rest is thread-safe.
struct HostJob {
  /// Neighbouring pieces that are counted together, so that few threads meet at a counter.
  struct alignas(64) Chapter {
    static constexpr uint32_t kPieces = 32;
    std::atomic<uint32_t> left{0};  // pieces that nobody has ended
  };

  static constexpr int64_t kMostBatchRows = 1024;

  HostProduct product;
  std::vector<WeightRun> runs;  // product.runs
  int64_t piece_rows = 0;
  uint32_t pieces = 0;
  uint32_t batch_pieces = 0;  // of a batch at most
  uint32_t late_piece = 0;    // when it is taken, the end is near
  int threads = 0;            // that take pieces
  int64_t rows = 0;
  uint64_t bytes = 0;
  std::atomic<uint32_t> next{0};  // first piece that nobody has taken
  std::atomic<uint32_t> chapters_left{0};
  std::atomic<uint32_t> ended{0};  // number of the product that has
  int64_t enqueued_ns = 0;
  std::atomic<int64_t> begin_ns{0};  // 0: not yet
  // By piece: the product's number, once a thread has the results that count.
  std::vector<std::atomic<uint32_t>> settled;
  std::vector<Chapter> chapters;

  /// Makes it product `number`, for so many threads.
  void set(const HostProduct& of_number, uint32_t number, int threads_that_take);

  /// Half of a thread's share of what is left, so that it reads long stretches of memory, and all
  /// end together. Empty if nothing is left.
  HostPieces take();
  /// The first of them that nobody has settled, and neighbours of the same chapter: what a thread
  /// multiplies before it hands over. Their rows are kMostBatchRows at most. Empty if all are
  /// settled.
  HostPieces next_batch(HostPieces of, uint32_t number) const;

  int64_t first_row(uint32_t piece) const {
    return std::min(static_cast<int64_t>(piece) * piece_rows, rows);
  }
  /// body(run, its first row, rows) for what the pieces have of each run.
  template <typename Body>
  void for_runs(HostPieces of, Body body) const {
    int64_t begin = first_row(of.begin);
    int64_t left = first_row(of.end) - begin;
    for (const WeightRun& run : runs) {
      const int64_t part = std::clamp<int64_t>(run.rows - begin, 0, left);
      if (part > 0) body(run, begin, part);
      begin = std::max<int64_t>(0, begin - run.rows);
      left -= part;
    }
  }

  bool is_settled(uint32_t piece, uint32_t number) const {
    return settled[piece].load(std::memory_order_relaxed) == number;
  }
  /// For which pieces of a batch the caller's results are those that count, the first ones: bit i
  /// stands for piece batch.begin + i.
  uint32_t settle(HostPieces batch, uint32_t number);
  /// The settled pieces are handed over, once. Whether they were the last ones: then all that was
  /// handed over is seen, hence the order of both counters.
  bool end_pieces(HostPieces batch, uint32_t mine) {
    const auto count = static_cast<uint32_t>(std::popcount(mine));
    std::atomic<uint32_t>& left = chapters[batch.begin / Chapter::kPieces].left;
    return left.fetch_sub(count, std::memory_order_acq_rel) == count &&
           chapters_left.fetch_sub(1, std::memory_order_acq_rel) == 1;
  }
  /// The first piece from this one on that nobody has settled, or `pieces`.
  uint32_t unsettled_from(uint32_t piece, uint32_t number) const;
  /// Rows before which most results are there when a thread takes `taken`.
  int64_t rows_done_before(uint32_t taken) const;

 private:
  void count_pieces(uint32_t number);
};

}  // namespace headrace
