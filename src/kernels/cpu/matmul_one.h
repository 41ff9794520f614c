#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/unroll.h"
#include "kernels/numerics.h"

namespace headrace::cpu {

/// The canonical matrix kernel for one token row: bound by how fast weights arrive from memory, so
/// it reads each row once, in order, and asks for what comes next.
template <typename V>
struct MatmulOne {
  using Vec = typename V::Vec;

  static constexpr int64_t kChunk = numerics::kPartials;
  static constexpr int kLeaves = static_cast<int>(kChunk) / V::kLanes;
  /// Leaves that fit in half of the registers; with fewer registers than leaves, a row is passed
  /// over several times, pass g taking the leaves g, g + kPasses, ....
  static constexpr int kHeld = V::kRegisters / 2;
  static constexpr int kPasses = kLeaves / kHeld;
  static constexpr size_t kPrefetchBytes = 4096;
  static constexpr int kBatch = 8;  // rows whose last sums are made together

  template <DType kType>
  static void pack_row(const std::byte* x, int64_t k, float* packed) {
    for (int64_t i = 0; i < k; i += V::kLanes) {
      const int64_t n = k - i < V::kLanes ? k - i : V::kLanes;
      const Vec v = V::template widen_n<kType>(x + Elementwise<V>::size(kType, i), n);
      V::store(packed + i, V::select_n(v, V::set1(-0.0f), n));
    }
  }

  template <DType kType>
  static void run(const MatrixRows& m, const float* x) {
    for (int64_t r = 0; r < m.rows; r += kBatch) {
      const int64_t count = m.rows - r < kBatch ? m.rows - r : kBatch;
      const std::byte* w = m.weights + static_cast<size_t>(r) * m.row_stride_bytes;
      Vec sums[kBatch];
      for (int64_t i = 0; i < count; ++i) sums[i] = row<kType>(w + offset(m, i), x, m.k);
      for (int64_t i = count; i < kBatch; ++i) sums[i] = V::zero();
      float dots[kBatch];
      V::tree8(sums, dots);
      for (int64_t i = 0; i < count; ++i) write(m, r + i, dots[i]);
    }
  }

 private:
  static size_t offset(const MatrixRows& m, int64_t row) {
    return static_cast<size_t>(row) * m.row_stride_bytes;
  }

  static HR_INLINE void write(const MatrixRows& m, int64_t row, float dot) {
    if (m.bias != nullptr) dot = dot + m.bias[row];
    m.out[row] = m.accumulate ? m.out[row] + dot : dot;
  }

  /// The tree's upper levels: one vector of partial sums.
  template <DType kType>
  static HR_INLINE Vec row(const std::byte* w, const float* x, int64_t k) {
    Vec passes[kPasses];
    for (int pass = 0; pass < kPasses; ++pass) passes[pass] = leaves<kType>(pass, w, x, k);
    for (int half = kPasses / 2; half >= 1; half /= 2) {
      for (int i = 0; i < half; ++i) passes[i] = V::add(passes[i], passes[i + half]);
    }
    return passes[0];
  }

  template <DType kType>
  static HR_INLINE Vec leaves(int pass, const std::byte* w, const float* x, int64_t k) {
    constexpr size_t kElement = dtype_size(kType);
    Vec sum[kHeld];
    unroll<kHeld>([&](auto h) __attribute__((always_inline)) { sum[h] = V::zero(); });
    int64_t left = k;
    for (; left >= kChunk; left -= kChunk, w += kChunk * kElement, x += kChunk) {
      if (pass == 0) {
        unroll<kChunk * kElement / 64>([&](auto line) __attribute__((always_inline)) {
          V::prefetch(w + kPrefetchBytes + line * 64);
        });
      }
      unroll<kHeld>([&](auto h) __attribute__((always_inline)) {
        const int64_t at = (pass + h * kPasses) * V::kLanes;
        sum[h] = V::fma(V::template widen<kType>(w + static_cast<size_t>(at) * kElement),
                        V::load(x + at), sum[h]);
      });
    }
    unroll<kHeld>([&](auto h) __attribute__((always_inline)) {
      const int64_t at = (pass + h * kPasses) * V::kLanes;
      if (at < left) {
        const int64_t n = left - at < V::kLanes ? left - at : V::kLanes;
        sum[h] = V::fma(V::template widen_n<kType>(w + static_cast<size_t>(at) * kElement, n),
                        V::load(x + at), sum[h]);
      }
    });
    unroll_halves<kHeld / 2>(sum);
    return sum[0];
  }

  template <int kHalf>
  static HR_INLINE void unroll_halves(Vec* sum) {
    if constexpr (kHalf >= 1) {
      unroll<kHalf>([&](auto i) __attribute__((always_inline)) {
        sum[i] = V::add(sum[i], sum[i + kHalf]);
      });
      unroll_halves<kHalf / 2>(sum);
    }
  }
};

}  // namespace headrace::cpu
