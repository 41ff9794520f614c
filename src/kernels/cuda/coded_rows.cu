#include "kernels/cuda/coded_row.cuh"
#include "kernels/cuda/launch.cuh"

namespace headrace::cuda {
namespace {

constexpr int kWarpsPerBlock = 8;

/// The elements of eight that are among the first `count`; zeros for the others.
__device__ __forceinline__ uint4 first_elements(uint4 eight, int count) {
  uint32_t words[4] = {eight.x, eight.y, eight.z, eight.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    words[i] &= 2 * i + 1 < count ? 0xffffffffu : 2 * i < count ? 0xffffu : 0u;
  }
  return make_uint4(words[0], words[1], words[2], words[3]);
}

/// A warp decodes a row.
template <CodecId kCodec, typename T>
__global__ void __launch_bounds__(kWarpsPerBlock * 32)
    decode_rows_kernel(CodedRows coded, int groups_offset) {
  allow_next();
  wait_for_previous();
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kWarpsPerBlock + warp;
  if (index >= coded.count) return;
  const std::byte* const row = coded.rows + index * static_cast<int64_t>(coded.row_stride_bytes);
  const auto k = static_cast<int>(coded.k);
  const int padded_k = (k + 7) / 8 * 8;
  auto* const out = reinterpret_cast<uint16_t*>(coded.out) + index * padded_k;
  CodeBook<kCodec, T> book;
  book.read(*reinterpret_cast<const uint4*>(row));
  int escapes_before = 0;
  const std::byte* group = row + groups_offset;
  for (int begin = 0; begin < k; begin += kGroupColumns, group += GroupShape<kCodec, T>::kBytes) {
    const int chunks = min(kGroupChunks, (k - begin + kCodedChunk - 1) / kCodedChunk);
    LaneGroup<kCodec, T> own;
    own.read(group, chunks, lane);
    number_escapes(own, escapes_before);
#pragma unroll
    for (int c = 0; c < kGroupChunks; ++c) {
      if (c >= chunks) break;
      const int column = begin + c * kCodedChunk + lane * 8;
      const uint4 eight =
          own.decode(group, c, lane, book, row + kBookBytes, groups_offset - kBookBytes);
      if (column < k) {
        *reinterpret_cast<uint4*>(out + column) = first_elements(eight, k - column);
      }
    }
  }
}

template <CodecId kCodec, typename T>
void launch_decode(const CodedRows& coded, Queue& queue) {
  const auto groups_offset =
      static_cast<int>(static_cast<int64_t>(coded.row_stride_bytes) -
                       static_cast<int64_t>(RowLayout::groups_bytes(coded.codec, coded.dtype, coded.k)));
  const int64_t blocks = (coded.count + kWarpsPerBlock - 1) / kWarpsPerBlock;
  launch(queue, decode_rows_kernel<kCodec, T>, static_cast<unsigned>(blocks), kWarpsPerBlock * 32, 0,
         coded, groups_offset);
}

}  // namespace

void decode_rows(const CodedRows& coded, Queue& queue) {
  if (coded.dtype == DType::kFloat16) {
    launch_decode<CodecId::kE3, __half>(coded, queue);
  } else if (coded.codec == CodecId::kE3) {
    launch_decode<CodecId::kE3, __nv_bfloat16>(coded, queue);
  } else {
    launch_decode<CodecId::kE4, __nv_bfloat16>(coded, queue);
  }
}

}  // namespace headrace::cuda
