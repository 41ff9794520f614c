#include "kernels/cpu/attention.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "kernels/numerics.h"

namespace headrace::cpu {
namespace {

using numerics::kAttentionSplit;

constexpr int64_t kMostQueries = 48;
/// Head dimensions that are converted at a time, so that K and V of a split fit in the cache.
constexpr int64_t kDims = 128;
constexpr int64_t kMostLanes = 16;
/// Queries that multiply_in_order takes together.
constexpr int64_t kQueryTile = 4;

constexpr int64_t round_up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

/// Floats for `width` columns of every query of a unit, whose number falls as heads grow.
constexpr int64_t query_floats(int64_t width) {
  return std::max(kMostQueries * kDims, round_up(width, kMostLanes));
}

}  // namespace

/// What one split of one unit needs.
struct AttentionKernel::Work {
  int64_t padded_dim;  // head_dim in whole vectors
  int64_t queries;
  float* k;             // [kDims, split]: part of the split's K
  float* v;             // [split, kDims]: part of the split's V
  float* scores;        // [queries, split], then probabilities
  float* q;             // [queries, head_dim]
  AttentionSums split;  // the result

  int64_t begin = 0;  // positions of the split
  int64_t end = 0;
  int64_t first = 0;  // queries before this one end before the split

  Work(float* scratch, int64_t head_dim, int64_t query_count, const AttentionSums& result)
      : padded_dim(round_up(head_dim, kMostLanes)), queries(query_count), split(result) {
    k = scratch;
    v = k + kDims * kAttentionSplit;
    scores = v + kDims * kAttentionSplit;
    q = scores + kMostQueries * kAttentionSplit;
  }
};

int64_t AttentionKernel::sums_floats(int64_t width) {
  return 2 * kMostQueries + query_floats(width);
}

AttentionSums AttentionKernel::sums_at(float* memory) {
  return {.max = memory, .sum = memory + kMostQueries, .weighted = memory + 2 * kMostQueries};
}

int64_t AttentionKernel::scratch_floats(int64_t width) {
  const int64_t work =
      2 * kDims * kAttentionSplit + kMostQueries * kAttentionSplit + query_floats(width);
  return work + 2 * sums_floats(width);
}

int64_t AttentionKernel::most_queries(int64_t head_dim) {
  const int64_t padded = round_up(head_dim, kMostLanes);
  return std::clamp<int64_t>(kMostQueries * kDims / padded, 1, kMostQueries);
}

void AttentionPlan::make(const AttentionArgs& args) {
  units_.clear();
  splits_.clear();
  products_ = 0;
  const int64_t group = args.heads / args.kv_heads;
  const int64_t most = AttentionKernel::most_queries(args.head_dim);
  for (const SequenceRows& sequence : args.sequences) {
    const int64_t queries = sequence.rows * group;
    products_ += sequence.rows * (sequence.position + sequence.rows) * args.heads * args.head_dim;
    for (int64_t end = queries; end > 0; end -= most) {  // the longest contexts first
      for (int64_t head = 0; head < args.kv_heads; ++head) {
        units_.push_back({&sequence, head, std::max<int64_t>(0, end - most), end});
        const int64_t longest = sequence.position + (end - 1) / group + 1;
        for (int64_t begin = 0; begin < longest; begin += kAttentionSplit) {
          splits_.push_back({units_.size() - 1, begin});
        }
      }
    }
  }
}

AttentionKernel::AttentionKernel(const CpuKernels& kernels, const AttentionArgs& args)
    : kernels_(kernels), args_(args), group_(args.heads / args.kv_heads) {}

void AttentionKernel::run(const AttentionUnit& unit, float* scratch) const {
  const int64_t work_floats =
      2 * kDims * kAttentionSplit + kMostQueries * kAttentionSplit + query_floats(args_.head_dim);
  const AttentionSums total = sums_at(scratch + work_floats);
  const AttentionSums split = sums_at(scratch + work_floats + sums_floats(args_.head_dim));
  clear(unit, total);
  const int64_t longest = context(unit, unit.end - 1);
  for (int64_t begin = 0; begin < longest; begin += kAttentionSplit) {
    run_split(unit, begin, scratch, split);
    fold(unit, begin, split, total);
  }
  write(unit, total);
}

/// The first query that sees position `begin`.
int64_t AttentionKernel::first_query(const AttentionUnit& unit, int64_t begin) const {
  const int64_t row = std::max<int64_t>(0, begin - unit.sequence->position);
  return std::max<int64_t>(0, row * group_ - unit.begin);
}

void AttentionKernel::clear(const AttentionUnit& unit, const AttentionSums& total) const {
  const int64_t queries = unit.end - unit.begin;
  std::fill(total.max, total.max + queries, -std::numeric_limits<float>::infinity());
  std::fill(total.sum, total.sum + queries, 0.0f);
  std::fill(total.weighted, total.weighted + queries * round_up(args_.head_dim, kMostLanes), 0.0f);
}

void AttentionKernel::run_split(const AttentionUnit& unit, int64_t begin, float* scratch,
                                const AttentionSums& split) const {
  Work work(scratch, args_.head_dim, unit.end - unit.begin, split);
  work.begin = begin;
  work.end = std::min(begin + kAttentionSplit, context(unit, unit.end - 1));
  work.first = first_query(unit, begin);
  gather_queries(unit, work);
  score_split(unit, work);
  weigh_split(unit, work);
}

void AttentionKernel::fold(const AttentionUnit& unit, int64_t begin, const AttentionSums& split,
                           const AttentionSums& total) const {
  const int64_t padded_dim = round_up(args_.head_dim, kMostLanes);
  for (int64_t i = first_query(unit, begin); i < unit.end - unit.begin; ++i) {
    kernels_.fold(&total.max[i], &total.sum[i], total.weighted + i * padded_dim, split.max[i],
                  split.sum[i], split.weighted + i * padded_dim, args_.head_dim);
  }
}

void AttentionKernel::write(const AttentionUnit& unit, const AttentionSums& total) const {
  for (int64_t i = 0; i < unit.end - unit.begin; ++i) {
    const int64_t query = unit.begin + i;
    const int64_t row = unit.sequence->row_begin + query / group_;
    const int64_t head = unit.kv_head * group_ + query % group_;
    const size_t out = static_cast<size_t>((row * args_.heads + head) * args_.head_dim);
    kernels_.finish(total.weighted + i * round_up(args_.head_dim, kMostLanes), total.sum[i],
                    args_.head_dim, args_.out_dtype, args_.out + out * dtype_size(args_.out_dtype));
  }
}

void AttentionKernel::gather_queries(const AttentionUnit& unit, Work& work) const {
  for (int64_t i = 0; i < work.queries; ++i) {
    const int64_t query = unit.begin + i;
    const int64_t row = unit.sequence->row_begin + query / group_;
    const int64_t head = unit.kv_head * group_ + query % group_;
    std::memcpy(work.q + i * args_.head_dim,
                args_.qkv + row * args_.qkv_stride + head * args_.head_dim,
                static_cast<size_t>(args_.head_dim) * sizeof(float));
  }
}

void AttentionKernel::score_split(const AttentionUnit& unit, Work& work) const {
  const int64_t columns = round_up(work.end - work.begin, kMostLanes);
  for (int64_t d = 0; d < args_.head_dim; d += kDims) {
    const int64_t dims = std::min(kDims, args_.head_dim - d);
    load_k(unit, work, d, dims);
    kernels_.multiply_in_order(work.queries - work.first, dims, columns,
                               work.q + work.first * args_.head_dim + d, args_.head_dim, work.k,
                               kAttentionSplit, work.scores + work.first * kAttentionSplit,
                               kAttentionSplit, d == 0);
  }
  for (int64_t i = work.first; i < work.queries; ++i) {
    const int64_t count = std::min(context(unit, unit.begin + i), work.end) - work.begin;
    kernels_.softmax_split(work.scores + i * kAttentionSplit, count, args_.scale,
                           &work.split.max[i], &work.split.sum[i]);
  }
}

void AttentionKernel::weigh_split(const AttentionUnit& unit, Work& work) const {
  for (int64_t d = 0; d < args_.head_dim; d += kDims) {
    const int64_t dims = std::min(kDims, args_.head_dim - d);
    load_v(unit, work, d, dims);
    weigh_values(unit, work, d, dims);
  }
}

/// Queries of a tile see different numbers of positions: those that all see are taken together, the
/// rest query by query.
void AttentionKernel::weigh_values(const AttentionUnit& unit, Work& work, int64_t d,
                                   int64_t dims) const {
  const int64_t columns = round_up(dims, kMostLanes);
  const auto seen = [&](int64_t i) {
    return std::min(context(unit, unit.begin + i), work.end) - work.begin;
  };
  for (int64_t i = work.first; i < work.queries; i += kQueryTile) {
    const int64_t tile = std::min(kQueryTile, work.queries - i);
    const int64_t common = seen(i);
    const float* p = work.scores + i * kAttentionSplit;
    float* out = work.split.weighted + i * work.padded_dim + d;
    kernels_.multiply_in_order(tile, common, columns, p, kAttentionSplit, work.v, kDims, out,
                               work.padded_dim, true);
    for (int64_t j = 1; j < tile; ++j) {
      const int64_t more = seen(i + j) - common;
      if (more == 0) continue;
      kernels_.multiply_in_order(1, more, columns, p + j * kAttentionSplit + common,
                                 kAttentionSplit, work.v + common * kDims, kDims,
                                 out + j * work.padded_dim, work.padded_dim, false);
    }
  }
}

/// Converts K of the split's positions, dimensions [d, d + dims), to work.k. Columns past the last
/// position keep what they held: no result depends on them.
void AttentionKernel::load_k(const AttentionUnit& unit, const Work& work, int64_t d,
                             int64_t dims) const {
  const KvShape& shape = args_.kv.shape;
  for (int64_t t = work.begin; t < work.end;) {
    const int64_t block = unit.sequence->blocks[static_cast<size_t>(t / shape.block_tokens)];
    const int64_t offset = t % shape.block_tokens;
    const int64_t count = std::min(shape.block_tokens - offset, work.end - t);
    int64_t from = block * shape.block_stride() +
                   (unit.kv_head * shape.head_dim + d) * shape.block_tokens + offset;
    float* to = work.k + (t - work.begin);
    for (int64_t i = 0; i < dims; ++i, from += shape.block_tokens, to += kAttentionSplit) {
      kernels_.widen(shape.dtype, args_.kv.k + static_cast<size_t>(from) * dtype_size(shape.dtype),
                     count, to);
    }
    t += count;
  }
}

/// Converts V of the split's positions, dimensions [d, d + dims), to work.v.
void AttentionKernel::load_v(const AttentionUnit& unit, const Work& work, int64_t d,
                             int64_t dims) const {
  const KvShape& shape = args_.kv.shape;
  for (int64_t t = work.begin; t < work.end; ++t) {
    const int64_t block = unit.sequence->blocks[static_cast<size_t>(t / shape.block_tokens)];
    const int64_t offset = t % shape.block_tokens;
    const int64_t from = block * shape.block_stride() +
                         (unit.kv_head * shape.block_tokens + offset) * shape.head_dim + d;
    kernels_.widen(shape.dtype, args_.kv.v + static_cast<size_t>(from) * dtype_size(shape.dtype),
                   dims, work.v + (t - work.begin) * kDims);
  }
}

}  // namespace headrace::cpu
