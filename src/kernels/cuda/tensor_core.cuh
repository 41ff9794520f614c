#pragma once

#include <type_traits>

#include "kernels/cuda/device_math.cuh"

/// Products of 16-bit matrices on tensor cores, a warp at a time, with fp32 sums. Fragments are
/// those of mma.m16n8k16 (PTX ISA, section "Matrix Fragments for mma.m16n8k16"): with g = lane / 4
/// and q = lane % 4, a lane holds, of 16 x 8 sums, columns 2q and 2q + 1 of the rows g and g + 8.
namespace headrace::cuda {

/// Two neighbours as one word, the first one low.
template <typename T>
__device__ __forceinline__ unsigned packed(T first, T second) {
  const Packed<T, 2> pair = {{first, second}};
  return *reinterpret_cast<const unsigned*>(&pair);
}

/// Two numbers rounded to T, as neighbours in a word, the first one low.
template <typename T>
__device__ __forceinline__ unsigned rounded_pair(float first, float second) {
  if constexpr (std::is_same_v<T, __half>) {
    const __half2 pair = __floats2half2_rn(first, second);
    return *reinterpret_cast<const unsigned*>(&pair);
  } else {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
    return *reinterpret_cast<const unsigned*>(&pair);
  }
}
template <typename T>
__device__ __forceinline__ float2 widened_pair(unsigned pair) {
  if constexpr (std::is_same_v<T, __half>) {
    return __half22float2(*reinterpret_cast<const __half2*>(&pair));
  } else {
    return __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&pair));
  }
}

/// Two numbers, each as the sum of nearly all of it in two of 16 bits: it rounded, and the rest
/// rounded.
template <typename T>
__device__ __forceinline__ void split_pair(float first, float second, unsigned& high,
                                           unsigned& low) {
  high = rounded_pair<T>(first, second);
  const float2 back = widened_pair<T>(high);
  low = rounded_pair<T>(__fsub_rn(first, back.x), __fsub_rn(second, back.y));
}

/// 16 x 16 numbers on the left of a product: columns 2q and 2q + 1 of row g, of row g + 8, then
/// columns 2q + 8 and 2q + 9 of both.
struct LeftFragment {
  unsigned words[4];
};

/// fp32 numbers on the left of a product, each as the sum of two of 16 bits.
struct SplitFragment {
  LeftFragment high;
  LeftFragment low;
};

/// sums += left x right; `right` is 16 x 8: rows 2q and 2q + 1 of column g, then 2q + 8 and 2q + 9.
template <typename T>
__device__ __forceinline__ void multiply_add(float (&sums)[4], const LeftFragment& left,
                                             const unsigned (&right)[2]) {
  if constexpr (std::is_same_v<T, __half>) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(left.words[0]), "r"(left.words[1]), "r"(left.words[2]), "r"(left.words[3]),
          "r"(right[0]), "r"(right[1]));
  } else {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(left.words[0]), "r"(left.words[1]), "r"(left.words[2]), "r"(left.words[3]),
          "r"(right[0]), "r"(right[1]));
  }
}

/// Right sides of two neighbouring products from shared memory, where a 16 x 16 matrix lies row by
/// row: each lane says where the eight numbers begin of row lane % 16, columns lane / 16 * 8.
template <typename T>
__device__ __forceinline__ void load_right(const T* numbers, unsigned (&right)[2][2]) {
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(numbers));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(right[0][0]), "=r"(right[0][1]), "=r"(right[1][0]), "=r"(right[1][1])
               : "r"(address)
               : "memory");
}

/// fp32 numbers on the right of a product, likewise.
struct SplitRight {
  unsigned high[2];
  unsigned low[2];
};

/// A word of each lane is two neighbours of row lane / 4 of an 8 x 8 matrix, columns 2q and 2q + 1:
/// the same of the matrix transposed.
__device__ __forceinline__ unsigned transposed(unsigned pair) {
  unsigned result;
  asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(result) : "r"(pair));
  return result;
}

/// The left side of a product from shared memory, where its transpose lies: each lane says where
/// the eight numbers begin of line lane % 8 + lane / 16 * 8, from column lane / 8 % 2 * 8 on.
template <typename T>
__device__ __forceinline__ void load_left_transposed(unsigned address, LeftFragment& left) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(left.words[0]), "=r"(left.words[1]), "=r"(left.words[2]), "=r"(left.words[3])
               : "r"(address)
               : "memory");
}

/// Where element `column` of line `line` lies in a line of shared memory, so that eight lines read
/// at the same columns, 16 bytes each, meet different banks. A line has at least 64 elements.
__device__ __forceinline__ int swizzled(int line, int column) { return column ^ ((line & 7) << 3); }

/// Four 8 x 8 matrices from shared memory: the lanes of each eight say where the lines of one
/// begin. A lane gets columns 2q and 2q + 1 of line g of each.
__device__ __forceinline__ void load_matrices(unsigned address, unsigned (&words)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(address)
               : "memory");
}

/// The way back.
__device__ __forceinline__ void store_matrices(void* numbers, const unsigned (&words)[4]) {
#if __CUDA_ARCH__ >= 900
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(numbers));
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(address),
               "r"(words[0]), "r"(words[1]), "r"(words[2]), "r"(words[3])
               : "memory");
#endif
}

/// The left side of a product from shared memory, where lanes say where numbers lie as above.
template <typename T>
__device__ __forceinline__ void load_left(const T* numbers, LeftFragment& left) {
  load_matrices(static_cast<unsigned>(__cvta_generic_to_shared(numbers)), left.words);
}

/// sums[n] += left x right n, for kCount right sides beside each other: a line of `right` is a line
/// of `kLine` numbers, of which `column` is the first one's, swizzled. First all high parts of the
/// left side, then all low ones, so that a product need not wait for the last.
template <typename T, int kLine, int kCount>
__device__ __forceinline__ void multiply_add_many(float (*sums)[4], const SplitFragment& left,
                                                  const T* right, int line, int column) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int own_line = line + lane % 16;
  unsigned sides[kCount / 2][2][2];
#pragma unroll
  for (int n = 0; n < kCount / 2; ++n) {
    load_right(right + own_line * kLine + swizzled(own_line, column + 16 * n + lane / 16 * 8),
               sides[n]);
  }
#pragma unroll
  for (int n = 0; n < kCount; ++n) multiply_add<T>(sums[n], left.high, sides[n / 2][n % 2]);
#pragma unroll
  for (int n = 0; n < kCount; ++n) multiply_add<T>(sums[n], left.low, sides[n / 2][n % 2]);
}

}  // namespace headrace::cuda
