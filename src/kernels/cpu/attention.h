#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/cpu_kernels.h"

namespace headrace::cpu {

/// Query heads that share one K and V, over neighbouring token rows of one sequence: query i is row
/// i / group, head i % group of the group. One thread computes them together, so that each piece of
/// K and V is converted once for all.
struct AttentionUnit {
  const SequenceRows* sequence;
  int64_t kv_head;
  int64_t begin;  // queries [begin, end) of rows * group
  int64_t end;
};

/// One split of a unit's context: what a thread takes when there are few units.
struct AttentionSplit {
  size_t unit;
  int64_t begin;  // first position
};

/// Cuts an op into units, and units into splits. Keeps its memory between ops.
class AttentionPlan {
 public:
  void make(const AttentionArgs& args);
  const std::vector<AttentionUnit>& units() const { return units_; }
  /// Unit by unit, and in the order of a unit's context.
  const std::vector<AttentionSplit>& splits() const { return splits_; }
  /// Multiplications that the op needs, roughly.
  int64_t products() const { return products_; }

 private:
  std::vector<AttentionUnit> units_;
  std::vector<AttentionSplit> splits_;
  int64_t products_ = 0;
};

/// Softmax of a unit's queries over one split, or over all splits so far. A view.
struct AttentionSums {
  float* max;       // [queries]
  float* sum;       // [queries] of probabilities
  float* weighted;  // [queries, head_dim in whole vectors]: V weighted by them
};

/// Computes units. Immutable; the threads that share it bring scratch of their own.
class AttentionKernel {
 public:
  AttentionKernel(const CpuKernels& kernels, const AttentionArgs& args);

  /// Floats of scratch, and of the memory behind AttentionSums, for heads * head_dim up to `width`.
  static int64_t scratch_floats(int64_t width);
  static int64_t sums_floats(int64_t width);
  static AttentionSums sums_at(float* memory);
  /// Queries that a unit may hold.
  static int64_t most_queries(int64_t head_dim);

  /// The whole unit.
  void run(const AttentionUnit& unit, float* scratch) const;

  /// The steps of run, for splits that are computed apart: clear(total), then for every split in
  /// order run_split and fold, then write.
  void clear(const AttentionUnit& unit, const AttentionSums& total) const;
  void run_split(const AttentionUnit& unit, int64_t begin, float* scratch,
                 const AttentionSums& split) const;
  void fold(const AttentionUnit& unit, int64_t begin, const AttentionSums& split,
            const AttentionSums& total) const;
  void write(const AttentionUnit& unit, const AttentionSums& total) const;

 private:
  struct Work;

  int64_t context(const AttentionUnit& unit, int64_t query) const {
    return unit.sequence->position + query / group_ + 1;
  }
  int64_t first_query(const AttentionUnit& unit, int64_t begin) const;
  void gather_queries(const AttentionUnit& unit, Work& work) const;
  void score_split(const AttentionUnit& unit, Work& work) const;
  void weigh_split(const AttentionUnit& unit, Work& work) const;
  void weigh_values(const AttentionUnit& unit, Work& work, int64_t d, int64_t dims) const;
  void load_k(const AttentionUnit& unit, const Work& work, int64_t d, int64_t dims) const;
  void load_v(const AttentionUnit& unit, const Work& work, int64_t d, int64_t dims) const;

  const CpuKernels& kernels_;
  const AttentionArgs& args_;
  const int64_t group_;
};

}  // namespace headrace::cpu
