#include "kernels/cuda/coded_queue.cuh"

namespace headrace::cuda {
namespace {

/// Adds the products of a group of `chunks` chunks (kWhole: of kGroupChunks) of Shape::kRows rows, with
/// token rows of x, `x_stride` columns apart. kPlain: codes say all of it.
template <typename Shape, bool kWhole, bool kPlain>
__device__ __forceinline__ void multiply_chunks(
    const std::byte* groups,
    const LaneGroup<Shape::kCodec, typename Shape::T> (&own)[Shape::kRows],
    const CodedRow<Shape> (&rows)[Shape::kRows], int capacity, const typename Shape::T* x,
    int x_stride, int chunks, int lane, Partials<Shape::kRows, Shape::kTokens>& partials) {
  using T = typename Shape::T;
#pragma unroll
  for (int c = 0; c < kGroupChunks; ++c) {
    if (!kWhole && c >= chunks) return;
    float w[Shape::kRows][kLaneColumns];
#pragma unroll
    for (int r = 0; r < Shape::kRows; ++r) {
      const std::byte* const group = groups + r * Shape::kBytes;
      const uint4 eight = kPlain ? own[r].decode(group, c, lane, rows[r].book)
                                 : own[r].decode(group, c, lane, rows[r].book, rows[r].escapes, capacity);
      widen8<T>(&eight, w[r]);
    }
    add_products<T, Shape::kRows, Shape::kTokens>(w, x + c * kChunk + lane * kLaneColumns, x_stride,
                                                  partials);
  }
}

template <typename Shape, bool kWhole>
__device__ __forceinline__ void multiply_group(const std::byte* groups,
                                               CodedRow<Shape> (&rows)[Shape::kRows], int capacity,
                                               const typename Shape::T* x, int x_stride, int chunks,
                                               int lane,
                                               Partials<Shape::kRows, Shape::kTokens>& partials) {
  if constexpr (kWhole) chunks = kGroupChunks;
  LaneGroup<Shape::kCodec, typename Shape::T> own[Shape::kRows];
#pragma unroll
  for (int r = 0; r < Shape::kRows; ++r) own[r].read(groups + r * Shape::kBytes, chunks, lane);
  bool plain = true;
#pragma unroll
  for (int r = 0; r < Shape::kRows; ++r) {
    const bool escapes = number_escapes(own[r], rows[r].escapes_before);
    plain = plain && !escapes && !rows[r].book.is_large();
  }
  if (Shape::kHasPlain && plain) {
    multiply_chunks<Shape, kWhole, true>(groups, own, rows, capacity, x, x_stride, chunks, lane,
                                         partials);
  } else {
    multiply_chunks<Shape, kWhole, false>(groups, own, rows, capacity, x, x_stride, chunks, lane,
                                          partials);
  }
}

/// Columns past k, up to a whole chunk: -0, whose products with the padding of weights add nothing.
template <typename T, int kThreads>
__device__ __forceinline__ void pad_x(const CodedLaunch& launch, T* x) {
  for (int t = 0; t < launch.tokens; ++t) {
    for (int i = launch.k + static_cast<int>(threadIdx.x); i < launch.x_stride; i += kThreads) {
      x[t * launch.x_stride + i] = round_to<T>(-0.0f);
    }
  }
}

/// canonical_bulk_kernel for coded rows.
template <typename Shape, bool kNorm>
__global__ void __launch_bounds__(Shape::kThreads, 1)
    canonical_coded_kernel(const __grid_constant__ CodedLaunch launch) {
  using T = typename Shape::T;
  extern __shared__ __align__(128) std::byte shared[];
  __shared__ Arrival arrivals[Shape::kWarps][kMostStages];
  __shared__ Arrival x_arrival;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = warp_of_block();
  Arrival* const arrived = arrivals[warp];
  T* const x = reinterpret_cast<T*>(
      shared + Shape::kWarps * (launch.stages * Shape::kStageBytes +
                                launch.headers * Shape::kRows * launch.header_bytes));
  allow_next();
  if (threadIdx.x == 0) x_arrival.init();
  init_arrivals(arrived, launch.stages, lane);
  CodedQueue<Shape> queue(launch, warp, shared, arrived);
  const auto fill_and_wait = [&] {
#pragma unroll 1
    for (int stage = 0; stage < launch.stages; ++stage) queue.copy_next(stage);
    pad_x<T, Shape::kThreads>(launch, x);
    wait_for_previous();
  };
  if constexpr (kNorm) {
    LaunchNorm<T, Shape::kThreads / kNormThreads> norm(launch.norm);
    fill_and_wait();
    norm.read();
    norm.finish(x, launch.x_stride);
  } else {
    fill_and_wait();
    if (threadIdx.x == 0) copy_x(launch, x, launch.x_stride, x_arrival);
    __syncthreads();
    x_arrival.wait(0);
  }

  int stage = 0;
  int phase = 0;
  int header = 0;
  for (RowGroups<Shape::kRows, Shape::kWarps> here(launch, warp); !here.done(); here.advance()) {
    CodedRow<Shape> rows[Shape::kRows];
    Partials<Shape::kRows, Shape::kTokens> partials = {};
    const int capacity = queue.header_bytes(here.run()) - kBookBytes;
    for (int begin = 0; begin < launch.x_stride; begin += kGroupColumns) {
      arrived[stage].wait(phase);
      if (begin == 0) {
#pragma unroll
        for (int r = 0; r < Shape::kRows; ++r) rows[r].begin(queue.header(header, r));
      }
      const int chunks = min(kGroupChunks, (launch.x_stride - begin) / kChunk);
      if (chunks == kGroupChunks) {
        multiply_group<Shape, true>(queue.stage(stage), rows, capacity, x + begin, launch.x_stride,
                                    chunks, lane, partials);
      } else {
        multiply_group<Shape, false>(queue.stage(stage), rows, capacity, x + begin, launch.x_stride,
                                     chunks, lane, partials);
      }
      __syncwarp();  // all lanes have left the stage
      queue.copy_next(stage);
      if (++stage == launch.stages) {
        stage = 0;
        phase ^= 1;
      }
    }
    header = queue.next_header(header);
    store_sums<Shape::kRows, Shape::kTokens>(partials, here.run(), here.first_row(), launch.tokens,
                                             lane);
  }
}

/// For so many token rows: as many warps as registers allow.
template <CodecId kCodec, typename T, int kTokens>
using ShapeFor = CodedShape<kCodec, T, 2, kTokens, kTokens <= 2 ? 16 : kTokens <= 4 ? 12 : 8>;

template <CodecId kCodec, typename T, int kTokens, bool kNorm>
void launch_coded(CodedLaunch& launch, Queue& queue) {
  using Shape = ShapeFor<kCodec, T, kTokens>;
  divide_memory<Shape>(launch, queue);
  launch_bulk_kernel<Shape, canonical_coded_kernel<Shape, kNorm>>(
      launch, static_cast<size_t>(launch.shared_bytes), queue);
}

/// kTokens of a launch of so many token rows.
constexpr int launch_tokens(int64_t tokens) {
  return tokens <= 2 ? static_cast<int>(tokens) : tokens <= 4 ? 4 : 8;
}

template <CodecId kCodec, typename T, bool kNorm>
void launch_tokens_of(CodedLaunch& launch, Queue& queue) {
  switch (launch_tokens(launch.tokens)) {
    case 1:
      return launch_coded<kCodec, T, 1, kNorm>(launch, queue);
    case 2:
      return launch_coded<kCodec, T, 2, kNorm>(launch, queue);
    case 4:
      if constexpr (!kNorm) launch_coded<kCodec, T, 4, false>(launch, queue);
      return;
    default:
      if constexpr (!kNorm) launch_coded<kCodec, T, 8, false>(launch, queue);
  }
}

/// Token rows that a launch has room for; 0: none.
template <CodecId kCodec, typename T>
int most_tokens(CodedLaunch launch, const Queue& queue) {
  return divide_memory<ShapeFor<kCodec, T, 8>>(launch, queue)   ? 8
         : divide_memory<ShapeFor<kCodec, T, 4>>(launch, queue) ? 4
         : divide_memory<ShapeFor<kCodec, T, 2>>(launch, queue) ? 2
         : divide_memory<ShapeFor<kCodec, T, 1>>(launch, queue) ? 1
                                                                : 0;
}

template <CodecId kCodec, typename T>
void multiply_coded(const MatmulRuns& matmul, const NormRows* norm, Queue& queue) {
  auto launch = describe_coded(matmul, queue);
  const int most = most_tokens<kCodec, T>(launch, queue);
  if (norm != nullptr) {
    if (matmul.tokens <= std::min<int64_t>(most, kMostNormedTokens)) {
      launch.norm = *norm;
      return launch_tokens_of<kCodec, T, true>(launch, queue);
    }
    rms_norm(*norm, queue);
  }
  for (int64_t left = matmul.tokens; left > 0; left -= most) {
    launch.tokens = static_cast<int32_t>(std::min<int64_t>(most, left));
    launch_tokens_of<kCodec, T, false>(launch, queue);
    advance_tokens(launch, most);
  }
}

/// A codec and a type, as an argument.
template <CodecId kCodec, typename T>
struct Coding {
  static int most_tokens(const CodedLaunch& launch, const Queue& queue) {
    return cuda::most_tokens<kCodec, T>(launch, queue);
  }
  static void multiply(const MatmulRuns& matmul, const NormRows* norm, Queue& queue) {
    multiply_coded<kCodec, T>(matmul, norm, queue);
  }
};

/// Calls body with the Coding of the runs.
template <typename Body>
auto dispatch_coding(const MatmulRuns& matmul, const Body& body) {
  if (matmul.dtype == DType::kFloat16) return body(Coding<CodecId::kE3, __half>());
  if (matmul.codec == CodecId::kE3) return body(Coding<CodecId::kE3, __nv_bfloat16>());
  return body(Coding<CodecId::kE4, __nv_bfloat16>());
}

}  // namespace

bool canonical_coded_fits(const MatmulRuns& matmul, const Queue& queue) {
  return queue.can_overlap && matmul.k % kLaneColumns == 0 &&
         matmul.x_stride_bytes % sizeof(uint4) == 0 &&
         dispatch_coding(matmul, [&](auto coding) {
           return coding.most_tokens(describe_coded(matmul, queue), queue) > 0;
         });
}

void canonical_matmul_coded(const MatmulRuns& matmul, const NormRows* norm, Queue& queue) {
  dispatch_coding(matmul, [&](auto coding) { coding.multiply(matmul, norm, queue); });
}

}  // namespace headrace::cuda
