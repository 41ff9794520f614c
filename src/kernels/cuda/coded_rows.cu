#include "kernels/cuda/coded_queue.cuh"

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

/// Eight elements of a row of k, where they go.
__device__ __forceinline__ void store_elements(uint16_t* row, int column, int k,
                                               const uint4& eight) {
  auto* const to = reinterpret_cast<uint4*>(row + column);
  if (column + 8 <= k) {
    *to = eight;
  } else if (column < k) {
    *to = first_elements(eight, k - column);
  }
}

__device__ __forceinline__ int64_t decoded_stride(int k) { return (k + 7) / 8 * 8; }

/// Decodes a group of a row, whose columns begin at `begin`.
template <CodecId kCodec, typename T>
__device__ __forceinline__ void decode_group(const std::byte* group,
                                             const CodeBook<kCodec, T>& book,
                                             const std::byte* escapes, int capacity,
                                             int& escapes_before, int chunks, uint16_t* row,
                                             int begin, int k, int lane) {
  LaneGroup<kCodec, T> own;
  own.read(group, chunks, lane);
  const bool plain = !number_escapes(own, escapes_before) && !book.is_large();
#pragma unroll
  for (int c = 0; c < kGroupChunks; ++c) {
    if (c >= chunks) break;
    const uint4 eight = kCodec != CodecId::kE3 && plain
                            ? own.decode(group, c, lane, book)
                            : own.decode(group, c, lane, book, escapes, capacity);
    store_elements(row, begin + c * kCodedChunk + lane * 8, k, eight);
  }
}

/// A block per multiprocessor; rows come through shared memory. The run's `out` is where elements go.
template <typename Shape>
__global__ void __launch_bounds__(Shape::kThreads, 1)
    decode_bulk_kernel(const __grid_constant__ CodedLaunch launch) {
  extern __shared__ __align__(128) std::byte shared[];
  __shared__ Arrival arrivals[Shape::kWarps][kMostStages];
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = warp_of_block();
  Arrival* const arrived = arrivals[warp];
  allow_next();
  if (lane == 0) {
    for (int stage = 0; stage < launch.stages; ++stage) arrived[stage].init();
  }
  __syncwarp();
  wait_for_previous();
  CodedQueue<Shape> queue(launch, warp, shared, arrived);
  for (int stage = 0; stage < launch.stages; ++stage) queue.copy_next(stage);

  int stage = 0;
  int phase = 0;
  int header = 0;
  for (RowGroups<Shape::kRows, Shape::kWarps> here(launch, warp); !here.done(); here.advance()) {
    CodedRow<Shape> rows[Shape::kRows];
    const int capacity = queue.header_bytes(here.run()) - kBookBytes;
    for (int begin = 0; begin < launch.x_stride; begin += kGroupColumns) {
      arrived[stage].wait(phase);
      if (begin == 0) {
#pragma unroll
        for (int r = 0; r < Shape::kRows; ++r) rows[r].begin(queue.header(header, r));
      }
      const int chunks = min(kGroupChunks, (launch.x_stride - begin) / kChunk);
#pragma unroll
      for (int r = 0; r < Shape::kRows; ++r) {
        const int64_t row = min(here.first_row() + r, here.run().rows - 1);
        decode_group(queue.stage(stage) + r * Shape::kBytes, rows[r].book, rows[r].escapes, capacity,
                     rows[r].escapes_before, chunks,
                     reinterpret_cast<uint16_t*>(here.run().out) + row * decoded_stride(launch.k),
                     begin, launch.k, lane);
      }
      __syncwarp();  // all lanes have left the stage
      queue.copy_next(stage);
      if (++stage == launch.stages) {
        stage = 0;
        phase ^= 1;
      }
    }
    header = queue.next_header(header);
  }
}

/// A warp decodes a row, where there are no bulk copies or a row's header is too long for them.
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
  auto* const out = reinterpret_cast<uint16_t*>(coded.out) + index * decoded_stride(k);
  CodeBook<kCodec, T> book;
  book.read(*reinterpret_cast<const uint4*>(row));
  int escapes_before = 0;
  const std::byte* group = row + groups_offset;
  for (int begin = 0; begin < k; begin += kGroupColumns, group += GroupShape<kCodec, T>::kBytes) {
    const int chunks = min(kGroupChunks, (k - begin + kCodedChunk - 1) / kCodedChunk);
    decode_group(group, book, row + kBookBytes, groups_offset - kBookBytes, escapes_before, chunks,
                 out, begin, k, lane);
  }
}

/// By decode_bulk_kernel, if the device has room for it; false: nothing is done.
template <CodecId kCodec, typename T>
bool launch_bulk(const CodedRows& coded, Queue& queue) {
  using Shape = CodedShape<kCodec, T, 2, 0, 16>;
  if (!queue.can_overlap) return false;
  const MatmulRun run = {.weights = coded.rows,
                         .row_stride_bytes = coded.row_stride_bytes,
                         .out = reinterpret_cast<float*>(coded.out),
                         .rows = static_cast<int32_t>(coded.count)};
  MatmulRuns runs;
  runs.dtype = coded.dtype;
  runs.codec = coded.codec;
  runs.runs = &run;
  runs.run_count = 1;
  runs.k = coded.k;
  auto launch = describe_coded(runs, queue);
  if (!divide_memory<Shape>(launch, queue)) return false;
  launch_bulk_kernel<Shape, decode_bulk_kernel<Shape>>(
      launch, static_cast<size_t>(launch.shared_bytes), queue);
  return true;
}

template <CodecId kCodec, typename T>
void launch_decode(const CodedRows& coded, Queue& queue) {
  if (launch_bulk<kCodec, T>(coded, queue)) return;
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
