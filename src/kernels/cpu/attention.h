#pragma once

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

/// Cuts an op into units. Keeps its memory between ops.
class AttentionPlan {
 public:
  void make(const AttentionArgs& args);
  const std::vector<AttentionUnit>& units() const { return units_; }
  /// Multiplications that the op needs, roughly.
  int64_t products() const { return products_; }

 private:
  std::vector<AttentionUnit> units_;
  int64_t products_ = 0;
};

/// Computes units. Immutable; the threads that share it bring scratch of their own.
class AttentionKernel {
 public:
  AttentionKernel(const CpuKernels& kernels, const AttentionArgs& args);

  /// Floats of scratch for heads * head_dim up to `width`.
  static int64_t scratch_floats(int64_t width);
  /// Queries that a unit may hold.
  static int64_t most_queries(int64_t head_dim);

  void run(const AttentionUnit& unit, float* scratch) const;

 private:
  struct Work;

  int64_t context(const AttentionUnit& unit, int64_t query) const {
    return unit.sequence->position + query / group_ + 1;
  }
  void gather_queries(const AttentionUnit& unit, Work& work) const;
  void score_split(const AttentionUnit& unit, Work& work) const;
  void weigh_split(const AttentionUnit& unit, Work& work) const;
  void weigh_values(const AttentionUnit& unit, Work& work, int64_t d, int64_t dims) const;
  void fold_split(const AttentionUnit& unit, Work& work) const;
  void load_k(const AttentionUnit& unit, const Work& work, int64_t d, int64_t dims) const;
  void load_v(const AttentionUnit& unit, const Work& work, int64_t d, int64_t dims) const;

  const CpuKernels& kernels_;
  const AttentionArgs& args_;
  const int64_t group_;
};

}  // namespace headrace::cpu
