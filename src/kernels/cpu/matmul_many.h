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
  static constexpr size_t kPrefetchBytes = 8192;
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
    // With few tokens to use them, packed weights should not leave the first-level cache.
    const MatmulBlocking blocking(m.k);
    const int64_t block_rows = m.tokens < kManyTokens ? kRows : blocking.block_rows;
    for (int64_t r = 0; r < m.rows; r += block_rows) {
      MatrixRows part = m;
      part.weights += static_cast<size_t>(r) * m.row_stride_bytes;
      part.rows = m.rows - r < block_rows ? m.rows - r : block_rows;
      part.out += r;
      if (m.bias != nullptr) part.bias += r;
      run_block<kType>(part, blocking, order, x, scratch);
    }
  }

 private:
  static constexpr int64_t kManyTokens = 64;

  /// A block of packed rows and tokens, and where its sums go.
  struct Block {
    const LeafOrder& order;
    const float* w;
    const float* x;
    int64_t rows;  // whole tiles
    int64_t tokens = 0;
    float* waiting;             // sums that wait for their neighbour in the tree: [level][tile]
    float* products = nullptr;  // [tokens][kMostBlockRows]
  };

  template <DType kType>
  static void run_block(const MatrixRows& m, const MatmulBlocking& blocking, const LeafOrder& order,
                        const float* x, float* scratch) {
    Block block{.order = order,
                .w = scratch,
                .x = x,
                .rows = (m.rows + kRows - 1) / kRows * kRows,
                .waiting = scratch + blocking.block_rows * order.vectors * kLanes};
    block.products = block.waiting + MatmulBlocking::kWaitingFloats;
    pack_weights<kType>(m, order, scratch);
    const auto multiply = blocking.short_rows ? multiply_block<4> : multiply_block<1>;
    for (int64_t t = 0; t < m.tokens; t += MatmulBlocking::kBlockTokens) {
      const int64_t left = m.tokens - t;
      block.tokens = left < MatmulBlocking::kBlockTokens ? left : MatmulBlocking::kBlockTokens;
      multiply(block, blocking.whole_tiles);
      write(m, t, block);
      block.x += block.tokens * order.vectors * kLanes;
    }
  }

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
      if (m.decoder != nullptr) {
        w = m.decoder->decode(w, 1);
      } else {
        for (size_t line = 0; line < m.row_stride_bytes; line += 64) {
          V::prefetch(w + kPrefetchBytes + line);
        }
      }
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

  template <int kTogether>
  static void multiply_block(const Block& block, bool whole_tiles) {
    constexpr int kSteps = kLeaves / kTogether;
    if (whole_tiles) return multiply_steps<kTogether>(block, 0, kSteps);
    for (int step = 0; step < kSteps; ++step) multiply_steps<kTogether>(block, step, step + 1);
  }

  /// Takes all tiles of the block through the steps [begin, end).
  template <int kTogether>
  static void multiply_steps(const Block& block, int begin, int end) {
    const bool one_at_a_time = begin == 0 && end == kLeaves / kTogether;
    const int64_t row_floats = block.order.vectors * kLanes;
    float* waiting = block.waiting;
    for (int64_t r = 0; r < block.rows; r += kRows) {
      const float* w = block.w + r * row_floats;
      for (int64_t t = 0; t < block.tokens; t += kTileTokens) {
        const float* x = block.x + t * row_floats;
        float* products = block.products + t * MatmulBlocking::kMostBlockRows + r;
        for (int step = begin; step < end; ++step) {
          if (block.tokens - t >= kTileTokens) {
            tile_step<kTogether, kTileTokens>(block.order, step, w, x, waiting, products);
          } else {
            tile_step<kTogether, 1>(block.order, step, w, x, waiting, products);
          }
        }
        if (!one_at_a_time) waiting += MatmulBlocking::kTileFloats;
      }
    }
  }

  template <int kTogether, int kTokens>
  static HR_INLINE void tile_step(const LeafOrder& order, int step, const float* w, const float* x,
                                  float* waiting, float* products) {
    constexpr int kSums = kTokens * kRows;
    Tile<kTokens> tile = subtree<kTogether, kTokens>(w, x, order.begin + step * kTogether);
    for (int level = step; (level & 1) != 0; level >>= 1) {
      unroll<kSums>([&](auto i) __attribute__((always_inline)) {
        tile.sum[i] = V::add(V::load(waiting + i * kLanes), tile.sum[i]);
      });
      waiting += MatmulBlocking::kLevelFloats;
    }
    if (step + 1 == kLeaves / kTogether) {
      finish<kTokens>(tile, products);
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
      unroll<kRows>([&](auto r) __attribute__((always_inline)) {
        weights[r] = V::in_register(V::load(w + r * kLanes));
      });
      unroll<kTokens>([&](auto t) __attribute__((always_inline)) {
        const Vec value = V::in_register(V::load(x + t * kLanes));
        unroll<kRows>([&](auto r) __attribute__((always_inline)) {
          constexpr int kSum = decltype(t)::value * kRows + decltype(r)::value;
          tile.sum[kSum] = V::fma(weights[r], value, tile.sum[kSum]);
        });
      });
    }
    return tile;
  }

  template <int kTokens>
  static HR_INLINE void finish(const Tile<kTokens>& tile, float* products) {
    float dots[2 * kRows];
    if constexpr (kTokens == 2) {
      V::tree8(tile.sum, dots);
    } else {
      for (int i = 0; i < kRows; ++i) dots[i] = V::tree(tile.sum[i]);
    }
    for (int token = 0; token < kTokens; ++token) {
      __builtin_memcpy(products + token * MatmulBlocking::kMostBlockRows, dots + token * kRows,
                       kRows * sizeof(float));
    }
  }

  /// Adds bias and what was there, and writes the block's products for the token rows from t on.
  static void write(const MatrixRows& m, int64_t t, const Block& block) {
    for (int64_t token = 0; token < block.tokens; ++token) {
      const float* products = block.products + token * MatmulBlocking::kMostBlockRows;
      float* out = m.out + (t + token) * m.stride;
      for (int64_t r = 0; r < m.rows; r += kLanes) {
        const int64_t n = m.rows - r < kLanes ? m.rows - r : kLanes;
        Vec value = V::load_n(products + r, n);
        if (m.bias != nullptr) value = V::add(value, V::load_n(m.bias + r, n));
        if (m.accumulate) value = V::add(V::load_n(out + r, n), value);
        V::store_n(out + r, value, n);
      }
    }
  }
};

}  // namespace headrace::cpu
