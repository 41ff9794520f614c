#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/host_workers.h"

namespace headrace {

/// Neighbouring pieces of a product.
struct Pieces {
  uint32_t begin = 0;
  uint32_t end = 0;
  bool empty() const { return begin == end; }
};

/// Neighbouring pieces of a product that are counted together: mostly one thread's, whose core then
/// has the counter to itself.
struct alignas(64) Chapter {
  static constexpr uint32_t kPieces = 32;
  std::atomic<uint32_t> left{0};  // pieces that nobody has ended
};

/// A product in the queue of the host's threads, cut into pieces of rows. Its place is used again
/// when all threads have left it: one that was held up may come back to it after its end.
struct Job {
  static constexpr int64_t kMostPieceRows = 1024;

  HostProduct product;
  std::vector<WeightRun> runs;  // product.runs
  int64_t piece_rows = 0;
  uint32_t pieces = 0;
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

  /// For product `number`, while no thread looks at it.
  void set(const HostProduct& of_number, uint32_t number, int threads);

  /// Half of a thread's share of what is left, so that it reads long stretches of memory, and all
  /// end together. Empty if nothing is left.
  Pieces take(int threads);

  int64_t first_row(uint32_t piece) const {
    return std::min(static_cast<int64_t>(piece) * piece_rows, rows);
  }
  /// body(run, its first row, rows) for what the pieces have of each run.
  template <typename Body>
  void for_runs(Pieces of, Body body) const {
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
  /// Whether the caller's results of the piece are those that count: the first ones.
  bool settle(uint32_t piece, uint32_t number) {
    return settled[piece].exchange(number, std::memory_order_relaxed) != number;
  }
  /// A settled piece is handed over. Whether it was the last one.
  bool end_piece(uint32_t piece) {
    return chapters[piece / Chapter::kPieces].left.fetch_sub(1, std::memory_order_acq_rel) == 1 &&
           chapters_left.fetch_sub(1, std::memory_order_acq_rel) == 1;
  }
  /// Rows before which most results are there when a thread takes `taken`, or ends if that is
  /// `pieces`.
  int64_t rows_done_before(uint32_t taken, int threads) const;

 private:
  void count_pieces(uint32_t number);
};

}  // namespace headrace
