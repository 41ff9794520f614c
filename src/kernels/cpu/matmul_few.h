#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/unroll.h"
#include "kernels/numerics.h"

namespace headrace::cpu {

/// The canonical matrix kernel for few token rows: bound by how fast weights arrive from memory, so
/// it reads each row in order, asks for what comes next, and converts weights where they are used.
template <typename V>
struct MatmulFew {
  using Vec = typename V::Vec;

  static constexpr int64_t kChunk = numerics::kPartials;
  static constexpr int kLeaves = static_cast<int>(kChunk) / V::kLanes;
  static constexpr size_t kPrefetchBytes = 4096;
  static constexpr int kBatch = RowDecoder::kRows;  // rows whose last sums are made together
  static constexpr int kTogether = 4;               // token rows that are multiplied together

  /// Leaves whose sums, for every token, fit in half of the registers. A row is passed over several
  /// times, pass g taking the leaves g, g + passes, ....
  template <int kTokens>
  static constexpr int kHeld = V::kRegisters / 2 / (kTokens == 3 ? 4 : kTokens);

  template <DType kType>
  static void pack_row(const std::byte* x, int64_t k, float* packed) {
    for (int64_t i = 0; i < k; i += V::kLanes) {
      const int64_t n = k - i < V::kLanes ? k - i : V::kLanes;
      const Vec v = V::template widen_n<kType>(x + Elementwise<V>::size(kType, i), n);
      V::store(packed + i, V::select_n(v, V::set1(-0.0f), n));
    }
  }

  /// Products of token row t with `count` rows from r on: adds bias and what was there.
  static HR_INLINE void write(const MatrixRows& m, int64_t r, int64_t count, int64_t t,
                              const float* dots) {
    float* out = m.out + t * m.stride + r;
    for (int64_t i = 0; i < count; ++i) {
      const float dot = m.bias == nullptr ? dots[i] : dots[i] + m.bias[r + i];
      out[i] = m.accumulate ? out[i] + dot : dot;
    }
  }

  /// x: rows of pack_row, `x_stride` floats apart.
  template <DType kType>
  static void run(const MatrixRows& m, const float* x, int64_t x_stride) {
    for (int64_t r = 0; r < m.rows; r += kBatch) {
      const int64_t count = m.rows - r < kBatch ? m.rows - r : kBatch;
      Batch batch{.begin = r,
                  .count = count,
                  .weights = m.weights + static_cast<size_t>(r) * m.row_stride_bytes,
                  .stride_bytes = m.row_stride_bytes};
      if (m.decoder != nullptr) {
        batch.weights = m.decoder->decode(batch.weights, count);
        batch.stride_bytes = m.decoder->decoded_stride_bytes();
      }
      for (int64_t t = 0; t < m.tokens; t += kTogether) {
        const float* from = x + t * x_stride;
        switch (m.tokens - t) {
          case 1:
            multiply_batch<kType, 1>(m, batch, t, from, x_stride);
            break;
          case 2:
            multiply_batch<kType, 2>(m, batch, t, from, x_stride);
            break;
          case 3:
            multiply_batch<kType, 3>(m, batch, t, from, x_stride);
            break;
          default:
            multiply_batch<kType, kTogether>(m, batch, t, from, x_stride);
        }
      }
    }
  }

 private:
  template <int kTokens>
  struct Sums {
    Vec of[kTokens];
  };

  /// Rows [begin, begin + count) of the matrix, raw.
  struct Batch {
    int64_t begin;
    int64_t count;
    const std::byte* weights;
    size_t stride_bytes;
  };

  /// kTokens token rows from t on.
  template <DType kType, int kTokens>
  static void multiply_batch(const MatrixRows& m, const Batch& batch, int64_t t, const float* x,
                             int64_t x_stride) {
    Vec sums[kTokens][kBatch];
    for (int64_t i = 0; i < kBatch; ++i) {
      const std::byte* w =
          batch.weights + static_cast<size_t>(i < batch.count ? i : 0) * batch.stride_bytes;
      const Sums<kTokens> row =
          i < batch.count ? multiply_row<kType, kTokens>(w, x, x_stride, m.k) : Sums<kTokens>{};
      for (int token = 0; token < kTokens; ++token) sums[token][i] = row.of[token];
    }
    for (int token = 0; token < kTokens; ++token) {
      float dots[kBatch];
      V::tree8(sums[token], dots);
      write(m, batch.begin, batch.count, t + token, dots);
    }
  }

  /// The tree's upper levels: one vector of partial sums for each token.
  template <DType kType, int kTokens>
  static HR_INLINE Sums<kTokens> multiply_row(const std::byte* w, const float* x, int64_t x_stride,
                                              int64_t k) {
    constexpr int kPasses = kLeaves / kHeld<kTokens>;
    Sums<kTokens> passes[kPasses];
    for (int pass = 0; pass < kPasses; ++pass) {
      passes[pass] = multiply_leaves<kType, kTokens>(pass, w, x, x_stride, k);
    }
    for (int half = kPasses / 2; half >= 1; half /= 2) {
      for (int i = 0; i < half; ++i) {
        unroll<kTokens>([&](auto t) __attribute__((always_inline)) {
          passes[i].of[t] = V::add(passes[i].of[t], passes[i + half].of[t]);
        });
      }
    }
    return passes[0];
  }

  template <DType kType, int kTokens>
  static HR_INLINE Sums<kTokens> multiply_leaves(int pass, const std::byte* w, const float* x,
                                                 int64_t x_stride, int64_t k) {
    constexpr int64_t kElement = static_cast<int64_t>(dtype_size(kType));
    constexpr int kLeavesHeld = kHeld<kTokens>;
    constexpr int kPasses = kLeaves / kLeavesHeld;
    Vec sum[kLeavesHeld * kTokens];
    unroll<kLeavesHeld * kTokens>([&](auto i)
                                      __attribute__((always_inline)) { sum[i] = V::zero(); });
    const auto add_products = [&](auto leaf, int64_t at,
                                  Vec weights) __attribute__((always_inline)) {
      weights = V::in_register(weights);
      unroll<kTokens>([&](auto t) __attribute__((always_inline)) {
        constexpr int kSum = decltype(leaf)::value * kTokens + decltype(t)::value;
        sum[kSum] = V::fma(weights, V::load(x + t * x_stride + at), sum[kSum]);
      });
    };
    int64_t left = k;
    for (; left >= kChunk; left -= kChunk, w += kChunk * kElement, x += kChunk) {
      if (pass == 0) {
        unroll<kChunk * kElement / 64>([&](auto line) __attribute__((always_inline)) {
          V::prefetch(w + kPrefetchBytes + line * 64);
        });
      }
      unroll<kLeavesHeld>([&](auto leaf) __attribute__((always_inline)) {
        const int64_t at = (pass + leaf * kPasses) * V::kLanes;
        add_products(leaf, at, V::template widen<kType>(w + at * kElement));
      });
    }
    unroll<kLeavesHeld>([&](auto leaf) __attribute__((always_inline)) {
      const int64_t at = (pass + leaf * kPasses) * V::kLanes;
      if (at + V::kLanes <= left) {
        add_products(leaf, at, V::template widen<kType>(w + at * kElement));
      } else if (at < left) {
        add_products(leaf, at, V::template widen_n<kType>(w + at * kElement, left - at));
      }
    });
    add_halves<kLeavesHeld / 2 * kTokens, kTokens>(sum);
    Sums<kTokens> sums;
    unroll<kTokens>([&](auto t) __attribute__((always_inline)) { sums.of[t] = sum[t]; });
    return sums;
  }

  /// sum[i] += sum[i + half], down to kTokens sums.
  template <int kHalf, int kTokens>
  static HR_INLINE void add_halves(Vec* sum) {
    if constexpr (kHalf >= kTokens) {
      unroll<kHalf>(
          [&](auto i) __attribute__((always_inline)) { sum[i] = V::add(sum[i], sum[i + kHalf]); });
      add_halves<kHalf / 2, kTokens>(sum);
    }
  }
};

}  // namespace headrace::cpu
