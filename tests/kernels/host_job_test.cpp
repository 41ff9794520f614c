#include "kernels/cpu/host_job.h"

#include <mutex>
#include <thread>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

namespace headrace {
namespace {

std::vector<WeightRun> any_runs(const std::byte* data) {
  std::vector<WeightRun> runs;
  const int count = *rc::gen::inRange(1, 5);
  for (int i = 0; i < count; ++i) {
    runs.push_back({.data = data,
                    .rows = *rc::gen::inRange<int64_t>(1, 3000),
                    .row_stride_bytes = *rc::gen::element<size_t>(64, 5760, 15488)});
  }
  return runs;
}

HostProduct product_of(const std::vector<WeightRun>& runs) {
  return {.tokens = 1, .k = 8, .runs = runs};
}

// As threads do it: whoever ends the last piece, and nobody else, is told so.
RC_GTEST_PROP(HostJob, EveryPieceIsTakenOnceAndTheLastOneIsKnown, ()) {
  const std::vector<WeightRun> runs = any_runs(nullptr);
  const int threads = *rc::gen::inRange(1, 6);
  Job job;
  for (uint32_t number = 1; number <= 2; ++number) {
    job.set(product_of(runs), number, threads);
    std::vector<int> taken(job.pieces);
    std::mutex mutex;
    std::atomic<uint32_t> ended{0};
    std::atomic<int> last_ones{0};
    std::atomic<uint32_t> ended_at_last{0};
    const auto work = [&] {
      for (Pieces pieces; !(pieces = job.take(threads)).empty();) {
        for (uint32_t piece = pieces.begin; piece < pieces.end; ++piece) {
          {
            const std::lock_guard lock(mutex);
            ++taken[piece];
          }
          if (!job.settle(piece, number)) continue;
          ended.fetch_add(1);
          if (job.end_piece(piece)) {
            last_ones.fetch_add(1);
            ended_at_last.store(ended.load());
          }
        }
      }
    };
    std::vector<std::thread> workers;
    for (int i = 0; i < threads; ++i) workers.emplace_back(work);
    for (std::thread& worker : workers) worker.join();
    for (const int times : taken) RC_ASSERT(times == 1);
    RC_ASSERT(last_ones.load() == 1);
    RC_ASSERT(ended_at_last.load() == job.pieces);
  }
}

RC_GTEST_PROP(HostJob, PiecesAreAllRowsOfTheRunsInOrder, ()) {
  const std::vector<WeightRun> runs = any_runs(nullptr);
  Job job;
  job.set(product_of(runs), 1, *rc::gen::inRange(1, 20));
  std::vector<int64_t> rows(runs.size());
  int64_t all = 0;
  for (uint32_t piece = 0; piece < job.pieces; ++piece) {
    int64_t of_piece = 0;
    job.for_runs({piece, piece + 1}, [&](const WeightRun& run, int64_t begin, int64_t count) {
      const auto index = static_cast<size_t>(&run - job.runs.data());
      RC_ASSERT(begin == rows[index]);
      rows[index] += count;
      of_piece += count;
    });
    RC_ASSERT(of_piece >= 1);
    RC_ASSERT(of_piece <= Job::kMostPieceRows);
    RC_ASSERT(job.first_row(piece) == all);
    all += of_piece;
  }
  for (size_t i = 0; i < runs.size(); ++i) RC_ASSERT(rows[i] == runs[i].rows);
}

// A device looks for rows early if it is told too much, late or never if too little.
RC_GTEST_PROP(HostJob, RowsAreSaidToBeDoneInOrderAndAllAtTheEnd, ()) {
  const std::vector<WeightRun> runs = any_runs(nullptr);
  const int threads = *rc::gen::inRange(1, 20);
  Job job;
  job.set(product_of(runs), 1, threads);
  int64_t before = 0;
  for (uint32_t taken = 0; taken < job.pieces; ++taken) {
    const int64_t done = job.rows_done_before(taken, threads);
    RC_ASSERT(done >= before);
    RC_ASSERT(done <= job.rows);
    if (done < job.rows) RC_ASSERT(done <= job.first_row(taken));
    before = done;
  }
  RC_ASSERT(before == job.rows);
}

}  // namespace
}  // namespace headrace
