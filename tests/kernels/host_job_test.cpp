#include "kernels/cpu/host_job.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

namespace headrace {
namespace {

std::vector<WeightRun> any_runs() {
  std::vector<WeightRun> runs;
  const int count = *rc::gen::inRange(1, 5);
  for (int i = 0; i < count; ++i) {
    runs.push_back({.rows = *rc::gen::inRange<int64_t>(1, 3000),
                    .row_stride_bytes = *rc::gen::element<size_t>(4, 64, 5760, 15488)});
  }
  return runs;
}

HostProduct product_of(const std::vector<WeightRun>& runs) {
  return {.tokens = 1, .k = 8, .runs = runs};
}

/// What threads write without any order of their own: a piece is handed over in `results`.
struct Outcome {
  explicit Outcome(uint32_t pieces) : results(pieces) {}

  std::vector<uint32_t> results;
  std::atomic<uint32_t> settled{0};
  std::atomic<int> last_ones{0};
  std::atomic<bool> all_seen{false};  // by the one that was told to be last
};

void settle(HostJob& job, HostPieces batch, uint32_t number, Outcome& outcome) {
  const uint32_t mine = job.settle(batch, number);
  if (mine == 0) return;
  for (uint32_t piece = batch.begin; piece < batch.end; ++piece) {
    if ((mine >> (piece - batch.begin) & 1) == 0) continue;
    outcome.settled.fetch_add(1, std::memory_order_relaxed);
    outcome.results[piece] = number;
  }
  if (!job.end_pieces(batch, mine)) return;
  outcome.last_ones.fetch_add(1, std::memory_order_relaxed);
  outcome.all_seen.store(std::ranges::count(outcome.results, number) == job.pieces,
                         std::memory_order_relaxed);
}

/// One thread's: what it takes, a third of the batches left to the others, as where it is held up;
/// then what nobody has settled.
void work(HostJob& job, uint32_t number, Outcome& outcome) {
  for (HostPieces pieces; !(pieces = job.take()).empty();) {
    for (HostPieces batch; !(batch = job.next_batch(pieces, number)).empty();) {
      if (batch.begin % 3 != 0) settle(job, batch, number, outcome);
      pieces.begin = batch.end;
    }
  }
  for (uint32_t piece = 0; (piece = job.unsettled_from(piece, number)) < job.pieces; ++piece) {
    settle(job, {piece, piece + 1}, number, outcome);
  }
}

// A place is used again, by products of more and of fewer pieces.
RC_GTEST_PROP(HostJob, EveryPieceCountsOnceAndTheLastOneIsKnown, ()) {
  HostJob job;
  for (uint32_t number = 7; number < 7 + 5 * 1024; number += 1024) {
    const int threads = *rc::gen::inRange(1, 5);
    job.set(product_of(any_runs()), number, threads);
    Outcome outcome(job.pieces);
    std::vector<std::thread> workers;
    for (int i = 0; i < threads; ++i) workers.emplace_back([&] { work(job, number, outcome); });
    for (std::thread& worker : workers) worker.join();
    RC_ASSERT(outcome.settled.load() == job.pieces);
    RC_ASSERT(outcome.last_ones.load() == 1);
    RC_ASSERT(outcome.all_seen.load());
    RC_ASSERT(job.unsettled_from(0, number) == job.pieces);
  }
}

RC_GTEST_PROP(HostJob, PiecesAreTakenInOrderAndOnce, ()) {
  HostJob job;
  job.set(product_of(any_runs()), 1, *rc::gen::inRange(1, 20));
  uint32_t end = 0;
  for (HostPieces pieces; !(pieces = job.take()).empty();) {
    RC_ASSERT(pieces.begin == end);
    RC_ASSERT(pieces.end > pieces.begin);
    end = pieces.end;
  }
  RC_ASSERT(end == job.pieces);
}

RC_GTEST_PROP(HostJob, PiecesAreAllRowsOfTheRunsInOrder, ()) {
  HostJob job;
  job.set(product_of(any_runs()), 1, *rc::gen::inRange(1, 20));
  std::vector<int64_t> rows(job.runs.size());
  int64_t all = 0;
  RC_ASSERT(job.piece_rows % 4 == 0);
  for (uint32_t piece = 0; piece < job.pieces; ++piece) {
    int64_t of_piece = 0;
    job.for_runs({piece, piece + 1}, [&](const WeightRun& run, int64_t begin, int64_t count) {
      const auto index = static_cast<size_t>(&run - job.runs.data());
      RC_ASSERT(begin == rows[index]);
      rows[index] += count;
      of_piece += count;
    });
    RC_ASSERT(of_piece >= 1);
    RC_ASSERT(of_piece <= HostJob::kMostBatchRows);
    RC_ASSERT(job.first_row(piece) == all);
    all += of_piece;
  }
  for (size_t i = 0; i < rows.size(); ++i) RC_ASSERT(rows[i] == job.runs[i].rows);
}

RC_GTEST_PROP(HostJob, BatchesAreWhatNobodyHasSettled, ()) {
  constexpr uint32_t kNumber = 3;
  HostJob job;
  job.set(product_of(any_runs()), kNumber, *rc::gen::inRange(1, 20));
  std::vector<bool> settled(job.pieces);
  for (uint32_t piece = 0; piece < job.pieces; ++piece) {
    if (*rc::gen::inRange(0, 4) > 0) continue;
    RC_ASSERT(job.settle({piece, piece + 1}, kNumber) == 1);
    settled[piece] = true;
  }
  HostPieces left = {0, *rc::gen::inRange(1u, job.pieces + 1)};
  for (HostPieces batch; !(batch = job.next_batch(left, kNumber)).empty(); left.begin = batch.end) {
    for (uint32_t piece = left.begin; piece < batch.begin; ++piece) RC_ASSERT(settled[piece]);
    RC_ASSERT(!settled[batch.begin]);
    RC_ASSERT(batch.end - batch.begin <= job.batch_pieces);
    RC_ASSERT(batch.end <= left.end);
    RC_ASSERT(batch.begin / HostJob::Chapter::kPieces ==
              (batch.end - 1) / HostJob::Chapter::kPieces);
    RC_ASSERT(job.first_row(batch.end) - job.first_row(batch.begin) <= HostJob::kMostBatchRows);
    const uint32_t mine = job.settle(batch, kNumber);
    for (uint32_t piece = batch.begin; piece < batch.end; ++piece) {
      RC_ASSERT((mine >> (piece - batch.begin) & 1) == (settled[piece] ? 0u : 1u));
    }
    RC_ASSERT(job.settle(batch, kNumber) == 0u);
  }
  for (uint32_t piece = 0; piece < left.end; ++piece) RC_ASSERT(job.is_settled(piece, kNumber));
}

// A device looks for rows early, and takes its share of the link, if it is told too much.
RC_GTEST_PROP(HostJob, RowsAreSaidToBeDoneInOrderAndAllAtTheEnd, ()) {
  HostJob job;
  job.set(product_of(any_runs()), 1, *rc::gen::inRange(1, 20));
  int64_t before = 0;
  for (uint32_t taken = 0; taken < job.pieces; ++taken) {
    const int64_t done = job.rows_done_before(taken);
    RC_ASSERT(done >= before);
    RC_ASSERT(done == job.rows || done <= job.first_row(taken));
    before = done;
  }
  RC_ASSERT(before == job.rows);
}

TEST(HostJob, PiecesOfALargeProduct) {
  const std::vector<WeightRun> runs = {{.rows = 8000, .row_stride_bytes = 5760}};
  HostJob job;
  job.set(product_of(runs), 1, 10);
  EXPECT_EQ(job.piece_rows, 8);  // 46 KB: more would be over 64
  EXPECT_EQ(job.pieces, 1000u);
  EXPECT_EQ(job.batch_pieces, 4u);  // of 192 KiB
  const HostPieces first = job.take();
  EXPECT_EQ(first.end, 50u);  // half of a tenth
  EXPECT_EQ(job.take().end, 97u);
  EXPECT_EQ(job.rows_done_before(250), 0);
  EXPECT_EQ(job.rows_done_before(700), 4000);  // 300 are left, 500 were before all had their turn
  EXPECT_EQ(job.rows_done_before(969), 7592);  // 31 are left, 51 were
  EXPECT_EQ(job.rows_done_before(970), 8000);  // 3 pieces a thread: 128 KiB
}

}  // namespace
}  // namespace headrace
