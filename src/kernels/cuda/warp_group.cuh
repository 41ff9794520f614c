#pragma once

#include <cuda.h>

#include "kernels/cuda/tensor_core.cuh"

/// Products of 16-bit matrices by four warps together, with fp32 sums (wgmma: PTX ISA, section
/// "Asynchronous Warpgroup Level Matrix Instructions"): 64 rows, of which warp w of the block has
/// rows 16w to 16w + 15 as in tensor_core.cuh. Every thread of the four warps calls every function.
/// Only in code for sm_90a.
namespace headrace::cuda {

/// What the thread wrote to shared memory can be read by warp groups after the next barrier.
__device__ __forceinline__ void show_to_groups() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/// Begins to store a box of a matrix (tensor_map.h) from shared memory, after show_to_groups() and
/// a barrier; boxes of a thread are stored in groups.
__device__ __forceinline__ void store_box(const CUtensorMap& map, const void* box, int column,
                                          int row) {
  asm volatile(
      "cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%0, {%1, %2}], [%3];" ::"l"(
          &map),
      "r"(column), "r"(row), "r"(static_cast<unsigned>(__cvta_generic_to_shared(box)))
      : "memory");
}
__device__ __forceinline__ void end_boxes_of_group() {
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}
/// Returns when the memory that the thread's boxes were in is free; when they are stored.
__device__ __forceinline__ void wait_for_boxes_read() {
  asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
}
__device__ __forceinline__ void wait_for_boxes() {
  asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
}

/// Describes numbers in shared memory, in lines of 128 swizzled bytes: eight lines are 1 KiB,
/// aligned as such. `next_bytes` is from what is described to its neighbour of the same lines.
__device__ __forceinline__ uint64_t described(const void* numbers, uint64_t next_bytes) {
  constexpr uint64_t kSwizzled128 = 1;
  constexpr uint64_t kEightLines = 1024;
  const auto address = static_cast<uint64_t>(__cvta_generic_to_shared(numbers));
  return (address & 0x3ffff) >> 4 | (next_bytes >> 4) << 16 | (kEightLines >> 4) << 32 |
         kSwizzled128 << 62;
}
/// A side of a product that lies in lines along k: of each, 16 columns from `numbers` on.
__device__ __forceinline__ uint64_t lines_of(const void* numbers) { return described(numbers, 16); }
/// The right side: 16 whole lines; columns past the 64th are `next_bytes` after them.
__device__ __forceinline__ uint64_t right_of(const void* numbers, uint64_t next_bytes) {
  return described(numbers, next_bytes);
}

/// Sums as they are in registers here: what is before and after this stays there.
template <int kTiles>
__device__ __forceinline__ void settle(float (&sums)[kTiles][4]) {
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
    asm volatile("" : "+f"(sums[n][0]), "+f"(sums[n][1]), "+f"(sums[n][2]), "+f"(sums[n][3]));
  }
}
__device__ __forceinline__ void settle(SplitFragment& left) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    asm volatile("" : "+r"(left.high.words[i]), "+r"(left.low.words[i]));
  }
}

/// Before the first of some products, whose operands in registers are settled; after the last comes
/// end_products().
__device__ __forceinline__ void begin_products() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void end_products() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/// Returns when all products that ended are in their sums.
template <int kTiles>
__device__ __forceinline__ void wait_for_products(float (&sums)[kTiles][4]) {
  asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
  settle(sums);
}
/// Returns when all but those that ended last are; sums stay as they are, on their way.
__device__ __forceinline__ void wait_for_products_before() {
  asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");
}

#define HR_SUMS(x) "+f"((x)[0]), "+f"((x)[1]), "+f"((x)[2]), "+f"((x)[3])
#define HR_FOUR_SUMS(k) \
  HR_SUMS(sums[k]), HR_SUMS(sums[k + 1]), HR_SUMS(sums[k + 2]), HR_SUMS(sums[k + 3])
#define HR_EIGHT_SUMS(k) HR_FOUR_SUMS(k), HR_FOUR_SUMS(k + 4)
#define HR_WORDS(x) "r"((x).words[0]), "r"((x).words[1]), "r"((x).words[2]), "r"((x).words[3])
#define HR_FIRST_32                                                        \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define HR_NEXT_32                                                                   \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define HR_LAST_64                                                                   \
  "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, " \
  "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, " \
  "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, " \
  "%110, %111, %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, "   \
  "%123, %124, %125, %126, %127"
#define HR_MULTIPLY_SHARED_64(type)                                                         \
  asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32." type "." type " {" HR_FIRST_32 \
               "}, %32, %33, 1, 1, 1, 0, 1;"                                                \
               : HR_EIGHT_SUMS(0)                                                           \
               : "l"(left), "l"(right))
#define HR_MULTIPLY_64(type)                                                                \
  asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32." type "." type " {" HR_FIRST_32 \
               "}, {%32, %33, %34, %35}, %36, 1, 1, 1, 1;"                                  \
               : HR_EIGHT_SUMS(0)                                                           \
               : HR_WORDS(left), "l"(right))
#define HR_MULTIPLY_128(type)                                                                \
  asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type " {" HR_FIRST_32 \
               ", " HR_NEXT_32 "}, {%64, %65, %66, %67}, %68, 1, 1, 1, 1;"                   \
               : HR_EIGHT_SUMS(0), HR_EIGHT_SUMS(8)                                          \
               : HR_WORDS(left), "l"(right))
#define HR_MULTIPLY_LINES_256(type)                                                 \
  asm volatile(                                                                     \
      "{\n.reg .pred adds;\nsetp.ne.b32 adds, %130, 0;\n"                           \
      "wgmma.mma_async.sync.aligned.m64n256k16.f32." type "." type " {" HR_FIRST_32 \
      ", " HR_NEXT_32 ", " HR_LAST_64 "}, %128, %129, adds, 1, 1, 0, 0;\n}"         \
      : HR_EIGHT_SUMS(0), HR_EIGHT_SUMS(8), HR_EIGHT_SUMS(16), HR_EIGHT_SUMS(24)    \
      : "l"(left), "l"(right), "r"(adds ? 1 : 0))
#define HR_MULTIPLY_TYPE(multiply)           \
  if constexpr (std::is_same_v<T, __half>) { \
    multiply("f16");                         \
  } else {                                   \
    multiply("bf16");                        \
  }

/// Begins sums += left x right, of 64 columns or 128.
template <typename T>
__device__ __forceinline__ void multiply_add_group(float (&sums)[8][4], uint64_t left,
                                                   uint64_t right) {
  HR_MULTIPLY_TYPE(HR_MULTIPLY_SHARED_64)
}
template <typename T>
__device__ __forceinline__ void multiply_add_group(float (&sums)[8][4], const LeftFragment& left,
                                                   uint64_t right) {
  HR_MULTIPLY_TYPE(HR_MULTIPLY_64)
}
template <typename T>
__device__ __forceinline__ void multiply_add_group(float (&sums)[16][4], const LeftFragment& left,
                                                   uint64_t right) {
  HR_MULTIPLY_TYPE(HR_MULTIPLY_128)
}

/// The same of 256 columns whose right side lies as the left one does: a line per column. Without
/// `adds` the sums begin here.
template <typename T>
__device__ __forceinline__ void multiply_lines_group(float (&sums)[32][4], uint64_t left,
                                                     uint64_t right, bool adds) {
  HR_MULTIPLY_TYPE(HR_MULTIPLY_LINES_256)
}

#undef HR_MULTIPLY_TYPE
#undef HR_MULTIPLY_LINES_256
#undef HR_MULTIPLY_128
#undef HR_MULTIPLY_64
#undef HR_MULTIPLY_SHARED_64
#undef HR_LAST_64
#undef HR_NEXT_32
#undef HR_FIRST_32
#undef HR_WORDS
#undef HR_EIGHT_SUMS
#undef HR_FOUR_SUMS
#undef HR_SUMS

}  // namespace headrace::cuda
