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

/// What one unit needs while it goes over the splits of its context.
struct AttentionKernel::Work {
  int64_t padded_dim;  // head_dim in whole vectors
  float* q;            // [queries, head_dim]
  float* k;            // [kDims, split]: part of the split's K
  float* v;            // [split, kDims]: part of the split's V
  float* scores;       // [queries, split], then probabilities
  float* split;        // [queries, padded_dim]: V weighted by this split
  float* total;        // the same over all splits so far
  float max[kMostQueries];
  float sum[kMostQueries];
  float split_max[kMostQueries];
  float split_sum[kMostQueries];

  int64_t begin = 0;  // positions of the split
  int64_t end = 0;
  int64_t first = 0;  // queries before this one end before the split
  int64_t queries = 0;

  Work(float* scratch, int64_t head_dim, int64_t query_count)
      : padded_dim(round_up(head_dim, kMostLanes)), queries(query_count) {
    const int64_t per_query = query_floats(padded_dim);
    k = scratch;
    v = k + kDims * kAttentionSplit;
    scores = v + kDims * kAttentionSplit;
    q = scores + kMostQueries * kAttentionSplit;
    split = q + per_query;
    total = split + per_query;
    std::fill(total, total + queries * padded_dim, 0.0f);
    std::fill(max, max + queries, -std::numeric_limits<float>::infinity());
    std::fill(sum, sum + queries, 0.0f);
  }
};

int64_t AttentionKernel::scratch_floats(int64_t width) {
  return 2 * kDims * kAttentionSplit + kMostQueries * kAttentionSplit + 3 * query_floats(width);
}

int64_t AttentionKernel::most_queries(int64_t head_dim) {
  const int64_t padded = round_up(head_dim, kMostLanes);
  return std::clamp<int64_t>(kMostQueries * kDims / padded, 1, kMostQueries);
}

void AttentionPlan::make(const AttentionArgs& args) {
  units_.clear();
  products_ = 0;
  const int64_t group = args.heads / args.kv_heads;
  const int64_t most = AttentionKernel::most_queries(args.head_dim);
  for (const SequenceRows& sequence : args.sequences) {
    const int64_t queries = sequence.rows * group;
    products_ += sequence.rows * (sequence.position + sequence.rows) * args.heads * args.head_dim;
    for (int64_t end = queries; end > 0; end -= most) {  // the longest contexts first
      for (int64_t head = 0; head < args.kv_heads; ++head) {
        units_.push_back({&sequence, head, std::max<int64_t>(0, end - most), end});
      }
    }
  }
}

AttentionKernel::AttentionKernel(const CpuKernels& kernels, const AttentionArgs& args)
    : kernels_(kernels), args_(args), group_(args.heads / args.kv_heads) {}

void AttentionKernel::run(const AttentionUnit& unit, float* scratch) const {
  Work work(scratch, args_.head_dim, unit.end - unit.begin);
  gather_queries(unit, work);
  const int64_t longest = context(unit, unit.end - 1);
  for (work.begin = 0; work.begin < longest; work.begin += kAttentionSplit) {
    work.end = std::min(work.begin + kAttentionSplit, longest);
    while (context(unit, unit.begin + work.first) <= work.begin) ++work.first;
    score_split(unit, work);
    weigh_split(unit, work);
    fold_split(unit, work);
  }
  for (int64_t i = 0; i < work.queries; ++i) {
    const int64_t query = unit.begin + i;
    const int64_t row = unit.sequence->row_begin + query / group_;
    const int64_t head = unit.kv_head * group_ + query % group_;
    const size_t out = static_cast<size_t>((row * args_.heads + head) * args_.head_dim);
    kernels_.finish(work.total + i * work.padded_dim, work.sum[i], args_.head_dim, args_.out_dtype,
                    args_.out + out * dtype_size(args_.out_dtype));
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
                           &work.split_max[i], &work.split_sum[i]);
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
    float* out = work.split + i * work.padded_dim + d;
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

void AttentionKernel::fold_split(const AttentionUnit&, Work& work) const {
  for (int64_t i = work.first; i < work.queries; ++i) {
    kernels_.fold(&work.max[i], &work.sum[i], work.total + i * work.padded_dim, work.split_max[i],
                  work.split_sum[i], work.split + i * work.padded_dim, args_.head_dim);
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
    int64_t from =
        ((block * shape.kv_heads + unit.kv_head) * shape.head_dim + d) * shape.block_tokens +
        offset;
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
    const int64_t from =
        ((block * shape.kv_heads + unit.kv_head) * shape.block_tokens + offset) * shape.head_dim +
        d;
    kernels_.widen(shape.dtype, args_.kv.v + static_cast<size_t>(from) * dtype_size(shape.dtype),
                   dims, work.v + (t - work.begin) * kDims);
  }
}

}  // namespace headrace::cpu
