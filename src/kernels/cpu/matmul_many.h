#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/leaf_order.h"
#include "kernels/cpu/matmul_blocking.h"
#include "kernels/cpu/unroll.h"

namespace headrace::cpu {

/// The canonical matrix kernel for several token rows. Weights are converted to float and packed
/// once for all tokens, four rows at a time; then tiles of 4 rows x 2 tokens are multiplied leaf by
/// leaf (leaf_order.h), so that a tile's sums stay in registers and its operands in the first-level
/// cache.
template <typename V>
struct MatmulMany {
  using Vec = typename V::Vec;

  static constexpr int kLanes = V::kLanes;
  static constexpr int kRows = kTileRows;
  static constexpr int kLeaves = static_cast<int>(numerics::kPartials) / kLanes;

  /// One vector of sums for each output of a tile; output (row r, token t) is sum[t * kRows + r].
  template <int kTokens>
  struct Tile {
    Vec sum[kTokens * kRows];
  };

  template <DType kType>
  static void pack_tokens(const std::byte* x, size_t x_stride_bytes, int64_t tokens,
                          const LeafOrder& order, int64_t k, float* packed) {
    for (int64_t t = 0; t < tokens; ++t) {
      pack<kType>(x + static_cast<size_t>(t) * x_stride_bytes, order, k, V::set1(-0.0f),
                  packed + t * kLanes, tokens * kLanes);
    }
  }

  template <DType kType>
  static void run(const MatrixRows& m, const LeafOrder& order, const float* x, float* scratch) {
    const MatmulBlocking blocking(m.k);
    const int64_t row_floats = order.vectors * kLanes;
    float* packed = scratch;
    float* waiting = scratch + blocking.block_rows * row_floats;
    pack_weights<kType>(m, order, packed);
    for (int64_t t = 0; t < m.tokens; t += blocking.block_tokens) {
      const int64_t end =
          t + blocking.block_tokens < m.tokens ? t + blocking.block_tokens : m.tokens;
      for (int64_t r = 0; r < m.rows; r += kRows) {
        const Panel panel{m, order, packed + r * row_floats, x, r, waiting};
        multiply(panel, blocking, t, end);
      }
    }
  }

 private:
  /// Four rows of weights, packed, with all that their products need.
  struct Panel {
    const MatrixRows& m;
    const LeafOrder& order;
    const float* w;
    const float* x;
    int64_t row;
    float* waiting;  // sums that wait for their neighbour in the tree: [level][tile]
  };

  template <DType kType>
  static HR_INLINE void pack(const std::byte* from, const LeafOrder& order, int64_t k, Vec padding,
                             float* to, int64_t vector_stride) {
    const int64_t full = k / kLanes;
    int leaf = 0;
    int64_t chunk = 0;
    for (int64_t i = 0; i < full; ++i) {
      const int64_t place = order.begin_of_leaf[leaf] + chunk;
      V::store(to + place * vector_stride,
               V::template widen<kType>(from + Elementwise<V>::size(kType, i * kLanes)));
      if (++leaf == kLeaves) {
        leaf = 0;
        ++chunk;
      }
    }
    if (full < order.vectors) {
      const int64_t n = k - full * kLanes;
      const Vec v =
          V::template widen_n<kType>(from + Elementwise<V>::size(kType, full * kLanes), n);
      V::store(to + (order.begin_of_leaf[leaf] + chunk) * vector_stride,
               V::select_n(v, padding, n));
    }
  }

  template <DType kType>
  static void pack_weights(const MatrixRows& m, const LeafOrder& order, float* packed) {
    const int64_t row_floats = order.vectors * kLanes;
    for (int64_t r = 0; r < m.rows; ++r) {
      const std::byte* w = m.weights + static_cast<size_t>(r) * m.row_stride_bytes;
      float* tile = packed + r / kRows * (kRows * row_floats);
      pack<kType>(w, order, m.k, V::zero(), tile + r % kRows * kLanes, kRows * kLanes);
    }
    for (int64_t r = m.rows; r % kRows != 0; ++r) {  // fills the last tile; its sums are dropped
      float* tile = packed + r / kRows * (kRows * row_floats);
      for (int64_t i = 0; i < order.vectors; ++i) {
        V::store(tile + r % kRows * kLanes + i * kRows * kLanes, V::zero());
      }
    }
  }

  static void multiply(const Panel& panel, const MatmulBlocking& blocking, int64_t begin,
                       int64_t end) {
    switch (blocking.leaves_together) {
      case 4:
        for (int64_t t = begin; t < end; t += kTileTokens) {
          const int64_t tile_end = t + kTileTokens < end ? t + kTileTokens : end;
          multiply_leaves<4>(panel, t, tile_end);
        }
        break;
      case 2:
        multiply_leaves<2>(panel, begin, end);
        break;
      default:
        multiply_leaves<1>(panel, begin, end);
    }
  }

  /// Token rows [begin, end) of a panel, kTogether leaves at a time over all of them, so that this
  /// part of the weights stays in the first-level cache.
  template <int kTogether>
  static void multiply_leaves(const Panel& panel, int64_t begin, int64_t end) {
    for (int step = 0; step < kLeaves / kTogether; ++step) {
      int64_t t = begin;
      for (; t + kTileTokens <= end; t += kTileTokens) {
        tile_step<kTogether, kTileTokens>(panel, step, t, (t - begin) / kTileTokens);
      }
      if (t < end) tile_step<kTogether, 1>(panel, step, t, (t - begin) / kTileTokens);
    }
  }

  template <int kTogether, int kTokens>
  static HR_INLINE void tile_step(const Panel& panel, int step, int64_t t, int64_t tile_index) {
    constexpr int kSums = kTokens * kRows;
    const float* x = panel.x + t * panel.order.vectors * kLanes;
    Tile<kTokens> tile =
        subtree<kTogether, kTokens>(panel.w, x, panel.order.begin + step * kTogether);
    float* waiting = panel.waiting + tile_index * kMostTileFloats;
    for (int level = step; (level & 1) != 0; level >>= 1) {
      unroll<kSums>([&](auto i) __attribute__((always_inline)) {
        tile.sum[i] = V::add(V::load(waiting + i * kLanes), tile.sum[i]);
      });
      waiting += kLevelFloats;
    }
    if (step + 1 == kLeaves / kTogether) {
      write<kTokens>(panel, t, tile);
    } else {
      unroll<kSums>([&](auto i) __attribute__((always_inline)) {
        V::store(waiting + i * kLanes, tile.sum[i]);
      });
    }
  }

  /// Sum of kTogether neighbouring leaves of the order; `begin` is where each begins.
  template <int kTogether, int kTokens>
  static HR_INLINE Tile<kTokens> subtree(const float* w, const float* x, const int64_t* begin) {
    if constexpr (kTogether == 1) {
      return leaf<kTokens>(w, x, begin[0], begin[1]);
    } else {
      constexpr int kHalf = kTogether / 2;
      Tile<kTokens> left = subtree<kHalf, kTokens>(w, x, begin);
      const Tile<kTokens> right = subtree<kHalf, kTokens>(w, x, begin + kHalf);
      unroll<kTokens * kRows>([&](auto i) __attribute__((always_inline)) {
        left.sum[i] = V::add(left.sum[i], right.sum[i]);
      });
      return left;
    }
  }

  template <int kTokens>
  static HR_INLINE Tile<kTokens> leaf(const float* w, const float* x, int64_t begin, int64_t end) {
    Tile<kTokens> tile;
    unroll<kTokens * kRows>([&](auto i)
                                __attribute__((always_inline)) { tile.sum[i] = V::zero(); });
    w += begin * kRows * kLanes;
    x += begin * kTokens * kLanes;
    for (int64_t i = begin; i < end; ++i, w += kRows * kLanes, x += kTokens * kLanes) {
      Vec weights[kRows];
      unroll<kRows>([&](auto r)
                        __attribute__((always_inline)) { weights[r] = V::load(w + r * kLanes); });
      unroll<kTokens>([&](auto t) __attribute__((always_inline)) {
        const Vec value = V::load(x + t * kLanes);
        unroll<kRows>([&](auto r) __attribute__((always_inline)) {
          constexpr int kSum = decltype(t)::value * kRows + decltype(r)::value;
          tile.sum[kSum] = V::fma(weights[r], value, tile.sum[kSum]);
        });
      });
    }
    return tile;
  }

  template <int kTokens>
  static HR_INLINE void write(const Panel& panel, int64_t t, const Tile<kTokens>& tile) {
    float dots[2 * kRows];
    if constexpr (kTokens == 2) {
      V::tree8(tile.sum, dots);
    } else {
      for (int i = 0; i < kRows; ++i) dots[i] = V::tree(tile.sum[i]);
    }
    const MatrixRows& m = panel.m;
    const int64_t rows = m.rows - panel.row < kRows ? m.rows - panel.row : kRows;
    for (int token = 0; token < kTokens; ++token) {
      float* out = m.out + (t + token) * m.stride + panel.row;
      for (int64_t r = 0; r < rows; ++r) {
        float value = dots[token * kRows + r];
        if (m.bias != nullptr) value = value + m.bias[panel.row + r];
        out[r] = m.accumulate ? out[r] + value : value;
      }
    }
  }
};

}  // namespace headrace::cpu
