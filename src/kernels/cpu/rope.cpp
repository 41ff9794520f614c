#include "kernels/cpu/rope.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace headrace::cpu {
namespace {

/// Dimensions of K that are rounded at once before they are spread over the block.
constexpr int64_t kPart = 64;

/// to[i * stride] = from[i], both arrays of elements of `size` bytes.
template <size_t kSize>
void scatter(const std::byte* from, int64_t count, std::byte* to, size_t stride_bytes) {
  for (int64_t i = 0; i < count; ++i) {
    std::memcpy(to + static_cast<size_t>(i) * stride_bytes, from + static_cast<size_t>(i) * kSize,
                kSize);
  }
}

/// Stores one token's K and V of all heads at `offset` of `block`.
void store_token(const CpuKernels& kernels, const RopeStoreArgs& args, const float* k,
                 int64_t block, int64_t offset) {
  const KvShape& shape = args.kv.shape;
  const size_t size = dtype_size(shape.dtype);
  const float* v = k + args.kv_heads * args.head_dim;
  std::array<std::byte, kPart * sizeof(float)> part;
  for (int64_t head = 0; head < args.kv_heads; ++head) {
    const int64_t base = block * shape.block_stride() + head * args.head_dim * shape.block_tokens;
    for (int64_t d = 0; d < args.head_dim; d += kPart) {
      const int64_t count = std::min(kPart, args.head_dim - d);
      kernels.narrow(shape.dtype, k + head * args.head_dim + d, count, part.data());
      std::byte* to =
          args.kv.k + static_cast<size_t>(base + d * shape.block_tokens + offset) * size;
      const size_t stride = static_cast<size_t>(shape.block_tokens) * size;
      if (size == 2) {
        scatter<2>(part.data(), count, to, stride);
      } else {
        scatter<4>(part.data(), count, to, stride);
      }
    }
    kernels.narrow(shape.dtype, v + head * args.head_dim, args.head_dim,
                   args.kv.v + static_cast<size_t>(base + offset * args.head_dim) * size);
  }
}

}  // namespace

void rope_and_store_rows(const CpuKernels& kernels, const RopeStoreArgs& args, int64_t begin,
                         int64_t end) {
  const int64_t half = args.head_dim / 2;
  const int64_t rotated_heads = args.heads + args.kv_heads;
  const int64_t width = (rotated_heads + args.kv_heads) * args.head_dim;
  for (const SequenceRows& sequence : args.sequences) {
    const int64_t last = std::min(end, sequence.row_begin + sequence.rows);
    for (int64_t row = std::max(begin, sequence.row_begin); row < last; ++row) {
      float* x = args.qkv + row * width;
      for (int64_t head = 0; head < rotated_heads; ++head) {
        kernels.rotate(x + head * args.head_dim, args.cos + row * half, args.sin + row * half,
                       half);
      }
      const int64_t position = sequence.position + (row - sequence.row_begin);
      const int64_t block_tokens = args.kv.shape.block_tokens;
      store_token(kernels, args, x + args.heads * args.head_dim,
                  sequence.blocks[static_cast<size_t>(position / block_tokens)],
                  position % block_tokens);
    }
  }
}

}  // namespace headrace::cpu
