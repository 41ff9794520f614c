#pragma once

#include <cstring>
#include <vector>

#include <gtest/gtest.h>

#include "stream/weight_stream.h"
#include "tests/support/made_weights.h"

namespace headrace::testing {

/// Compares the rows of a run with the file's; true if they are equal and 64 bytes after the last
/// one can be read.
inline bool run_is_right(const MadeWeights& made, const WeightRun& run, uint32_t first_matrix) {
  const uint32_t matrix = first_matrix + run.matrix;
  for (int64_t row = 0; row < run.rows; ++row) {
    const auto expected = made.rows(matrix, run.row_begin + row, 1);
    if (run.row_stride_bytes != expected.size()) return false;
    const std::byte* const data = run.data + static_cast<size_t>(row) * run.row_stride_bytes;
    if (std::memcmp(data, expected.data(), expected.size()) != 0) return false;
  }
  volatile char tail = 0;
  const std::byte* const end = run.data + static_cast<size_t>(run.rows) * run.row_stride_bytes;
  for (int i = 0; i < 64; ++i) tail = static_cast<char>(end[i]);
  return tail == tail;
}

/// Runs a pass: true if every row of every group came exactly once, with the file's bytes.
inline bool pass_is_right(WeightStream& stream, const MadeWeights& made, bool with_logits) {
  const std::vector<MatrixGroup> groups = made.manifest.groups();
  const size_t count = groups.size() - (with_logits ? 0 : 1);
  bool right = true;
  stream.begin_pass(with_logits);
  for (uint32_t g = 0; g < count; ++g) {
    std::vector<std::vector<int>> seen(groups[g].matrix_count);
    for (uint32_t m = 0; m < groups[g].matrix_count; ++m) {
      seen[m].resize(static_cast<size_t>(made.manifest.matrices[groups[g].first_matrix + m].rows));
    }
    WeightFeed& feed = stream.group(g);
    for (Lease lease; feed.next(lease);) {
      for (const WeightRun& run : lease.runs()) {
        right = right && run_is_right(made, run, groups[g].first_matrix);
        for (int64_t row = run.row_begin; row < run.row_begin + run.rows; ++row) {
          ++seen.at(run.matrix).at(static_cast<size_t>(row));
        }
      }
    }
    for (const auto& rows : seen) {
      for (const int times : rows) right = right && times == 1;
    }
  }
  stream.end_pass();
  return right;
}

/// Runs groups without looking at them until `requests` streamed leases were taken; leaves the pass
/// unfinished.
inline void take_leases(WeightStream& stream, const MadeWeights& made, int64_t requests) {
  const auto groups = static_cast<uint32_t>(made.manifest.groups().size());
  const int64_t before = stream.counters().requests;
  for (uint32_t g = 0; g < groups; ++g) {
    WeightFeed& feed = stream.group(g);
    for (Lease lease; feed.next(lease);) {
      if (stream.counters().requests - before == requests) return;
    }
  }
}

}  // namespace headrace::testing
