#include <algorithm>

#include "kernels/cuda/bulk_copy.cuh"
#include "kernels/cuda/coded_row.cuh"

namespace headrace::cuda {
namespace {

constexpr int kFewestStages = 2;
constexpr int kQueueBytes = 176 << 10;  // of all warps: as much is on its way at any time

struct CodedLaunch : BulkLaunch {
  int32_t groups_bytes;  // of a row: what comes before is its header, the book and the escapes
  int32_t header_bytes;  // the longest header of a run
  int32_t headers;       // row groups whose headers a warp has room for
  int32_t x_stride;      // k, up to a whole chunk
};

/// What a warp knows of the rows that it multiplies.
template <CodecId kCodec, typename T>
struct CodedRow {
  CodeBook<kCodec, T> book;
  const std::byte* escapes;
  int escapes_before;  // of the groups so far
};

/// Adds the products of a group of `chunks` chunks (kWhole: of kGroupChunks): kBulkRows rows of it,
/// with token rows of x, `x_stride` columns apart.
template <CodecId kCodec, typename T, int kTokens, bool kWhole>
__device__ __forceinline__ void multiply_group(const std::byte* groups,
                                               CodedRow<kCodec, T> (&rows)[kBulkRows],
                                               int capacity, const T* x, int x_stride, int chunks,
                                               int lane, Partials<kTokens>& partials) {
  constexpr int kGroupBytes = GroupShape<kCodec, T>::kBytes;
  if constexpr (kWhole) chunks = kGroupChunks;
  LaneGroup<kCodec, T> own[kBulkRows];
#pragma unroll
  for (int r = 0; r < kBulkRows; ++r) own[r].read(groups + r * kGroupBytes, chunks, lane);
#pragma unroll
  for (int r = 0; r < kBulkRows; ++r) number_escapes(own[r], rows[r].escapes_before);
#pragma unroll
  for (int c = 0; c < kGroupChunks; ++c) {
    if (!kWhole && c >= chunks) return;
    float w[kBulkRows][kLaneColumns];
#pragma unroll
    for (int r = 0; r < kBulkRows; ++r) {
      const uint4 eight = own[r].decode(groups + r * kGroupBytes, c, lane, rows[r].book,
                                        rows[r].escapes, capacity);
      widen8<T>(&eight, w[r]);
    }
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
      float values[kLaneColumns];
      load_widened<T>(x + t * x_stride + c * kChunk + lane * kLaneColumns, values);
#pragma unroll
      for (int r = 0; r < kBulkRows; ++r) {
#pragma unroll
        for (int e = 0; e < kLaneColumns; ++e) {
          partials[r][t][e] = __fmaf_rn(w[r][e], values[e], partials[r][t][e]);
        }
      }
    }
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

/// The copies of a warp, which come in the order of Segments: of every row group its headers, with the
/// first of its groups, and the groups.
template <CodecId kCodec, typename T, int kWarps>
class CodedQueue {
  using Shape = GroupShape<kCodec, T>;
  using Groups = Segments<kGroupColumns, kWarps>;

 public:
  __device__ __forceinline__ CodedQueue(const CodedLaunch& launch, int warp, std::byte* shared,
                                        Arrival* arrived)
      : launch_(launch),
        stages_(shared + warp * launch.stages * kStageBytes),
        headers_(shared + kWarps * launch.stages * kStageBytes +
                 warp * launch.headers * kBulkRows * launch.header_bytes),
        arrived_(arrived),
        ahead_(launch, warp) {}
  static constexpr int kStageBytes = kBulkRows * Shape::kBytes;

  __device__ __forceinline__ const std::byte* stage(int index) const {
    return stages_ + index * kStageBytes;
  }
  __device__ __forceinline__ std::byte* header(int index, int r) const {
    return headers_ + (index * kBulkRows + r) * launch_.header_bytes;
  }
  __device__ __forceinline__ int next_header(int index) const {
    return index + 1 == launch_.headers ? 0 : index + 1;
  }
  __device__ __forceinline__ int chunks(int column) const {
    return min(kGroupChunks, (launch_.k - column + kChunk - 1) / kChunk);
  }
  __device__ __forceinline__ int header_bytes(const MatmulRun& run) const {
    return static_cast<int>(run.row_stride_bytes) - launch_.groups_bytes;
  }

  __device__ __forceinline__ void copy_next(int stage, int lane) {
    if (ahead_.done()) return;
    if (lane == 0) {
      const int header_size = header_bytes(ahead_.run());
      const int size = Shape::bytes(chunks(ahead_.column()));
      const bool first = ahead_.segment() == 0;
      Arrival& arrival = arrived_[stage];
      arrival.expect(kBulkRows * (size + (first ? header_size : 0)));
#pragma unroll
      for (int r = 0; r < kBulkRows; ++r) {
        const std::byte* const row = ahead_.row(r);
        if (first) arrival.copy(header(header_, r), row, header_size);
        arrival.copy(stages_ + stage * kStageBytes + r * Shape::kBytes,
                     row + header_size + static_cast<int64_t>(ahead_.segment()) * Shape::kBytes,
                     size);
      }
    }
    if (ahead_.last_of_group()) header_ = next_header(header_);
    ahead_.advance();
  }

 private:
  const CodedLaunch& launch_;
  std::byte* const stages_;
  std::byte* const headers_;
  Arrival* const arrived_;
  Groups ahead_;
  int header_ = 0;  // of the row group ahead
};

/// canonical_bulk_kernel for coded rows.
template <CodecId kCodec, typename T, int kTokens, int kWarps, bool kNorm>
__global__ void __launch_bounds__(kWarps * 32, 1)
    canonical_coded_kernel(const __grid_constant__ CodedLaunch launch) {
  extern __shared__ __align__(128) std::byte shared[];
  __shared__ Arrival arrivals[kWarps][kMostStages];
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  Arrival* const arrived = arrivals[warp];
  using CopyQueue = CodedQueue<kCodec, T, kWarps>;
  CopyQueue queue(launch, warp, shared, arrived);
  T* const x = reinterpret_cast<T*>(
      shared + kWarps * (launch.stages * CopyQueue::kStageBytes +
                         launch.headers * kBulkRows * launch.header_bytes));
  allow_next();

  if (lane == 0) {
    for (int stage = 0; stage < launch.stages; ++stage) arrived[stage].init();
  }
  __syncwarp();
  for (int stage = 0; stage < launch.stages; ++stage) queue.copy_next(stage, lane);
  if constexpr (kNorm) {
    RowNorm<T> norm(launch.norm.weight, launch.k, static_cast<int>(threadIdx.x) % kNormThreads);
    wait_for_previous();
    finish_norm<T, kWarps * 32 / kNormThreads>(launch.norm, norm, x, launch.x_stride);
  } else {
    wait_for_previous();
    load_x<T, kWarps * 32>(launch, x, launch.x_stride);
  }
  pad_x<T, kWarps * 32>(launch, x);
  __syncthreads();

  int stage = 0;
  int phase = 0;
  int header = 0;
  CodedRow<kCodec, T> rows[kBulkRows] = {};
  Partials<kTokens> partials = {};
  for (Segments<kGroupColumns, kWarps> here(launch, warp); !here.done(); here.advance()) {
    arrived[stage].wait(phase);
    if (here.segment() == 0) {
#pragma unroll
      for (int r = 0; r < kBulkRows; ++r) {
        const std::byte* const begin = queue.header(header, r);
        rows[r].book.read(*reinterpret_cast<const uint4*>(begin));
        rows[r].escapes = begin + kBookBytes;
        rows[r].escapes_before = 0;
      }
    }
    const int capacity = queue.header_bytes(here.run()) - kBookBytes;
    const int chunks = queue.chunks(here.column());
    const T* const values = x + here.column();
    if (chunks == kGroupChunks) {
      multiply_group<kCodec, T, kTokens, true>(queue.stage(stage), rows, capacity, values,
                                               launch.x_stride, chunks, lane, partials);
    } else {
      multiply_group<kCodec, T, kTokens, false>(queue.stage(stage), rows, capacity, values,
                                                launch.x_stride, chunks, lane, partials);
    }
    __syncwarp();  // all lanes have left the stage
    queue.copy_next(stage, lane);
    if (++stage == launch.stages) {
      stage = 0;
      phase ^= 1;
    }
    if (!here.last_of_group()) continue;
    header = queue.next_header(header);
#pragma unroll
    for (int r = 0; r < kBulkRows; ++r) {
#pragma unroll
      for (int t = 0; t < kTokens; ++t) {
        const float sum = tree_sum_of_warp(partials[r][t], lane);
        if (lane == 0 && here.first_row() + r < here.run().rows && t < launch.tokens) {
          store_product(here.run(), here.first_row() + r, t, sum);
        }
#pragma unroll
        for (int e = 0; e < kLaneColumns; ++e) partials[r][t][e] = 0.0f;
      }
    }
  }
}

/// Warps of a block for so many token rows: as many as registers allow.
constexpr int warps_for(int tokens) { return tokens <= 2 ? 16 : 8; }

/// Divides shared memory up; false if it is not enough for so many token rows.
template <CodecId kCodec, typename T>
bool divide_memory(CodedLaunch& launch, int tokens, const Queue& queue) {
  const int warps = warps_for(tokens);
  const int64_t stage_bytes = int64_t{warps} * kBulkRows * GroupShape<kCodec, T>::kBytes;
  const int64_t header_bytes = int64_t{warps} * kBulkRows * launch.header_bytes;
  const int64_t room = queue.shared_bytes - kBulkStaticBytes -
                       static_cast<int64_t>(tokens) * launch.x_stride * sizeof(T);
  const int row_stages = (launch.k + kGroupColumns - 1) / kGroupColumns;
  launch.stages = static_cast<int32_t>(std::min<int64_t>(kMostStages, kQueueBytes / stage_bytes));
  for (; launch.stages >= kFewestStages; --launch.stages) {
    // The stages that follow one another from any on are of so many row groups at most.
    launch.headers = (launch.stages - 1 + row_stages - 1) / row_stages + 1;
    if (launch.stages * stage_bytes + launch.headers * header_bytes <= room) return true;
  }
  return false;
}

template <CodecId kCodec, typename T, int kTokens, bool kNorm>
void launch_coded(CodedLaunch& launch, Queue& queue) {
  constexpr int kWarps = warps_for(kTokens);
  divide_memory<kCodec, T>(launch, kTokens, queue);
  const auto kernel = canonical_coded_kernel<kCodec, T, kTokens, kWarps, kNorm>;
  static const cudaError_t ready =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           queue.shared_bytes - kBulkStaticBytes);
  static_cast<void>(ready);  // a launch would fail too, and is checked
  const int blocks = std::min(queue.multiprocessors, number_groups(launch, kBulkRows));
  const int warp_bytes = launch.stages * kBulkRows * GroupShape<kCodec, T>::kBytes +
                         launch.headers * kBulkRows * launch.header_bytes;
  const size_t x_bytes = static_cast<size_t>(kTokens * launch.x_stride) * sizeof(T);
  const size_t shared_bytes = static_cast<size_t>(kWarps * warp_bytes) + x_bytes;
  headrace::cuda::launch(queue, kernel, blocks, kWarps * 32, shared_bytes, launch);
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

CodedLaunch describe(const MatmulRuns& matmul, const Queue& queue) {
  auto launch = launch_of<CodedLaunch>(matmul);
  launch.groups_bytes =
      static_cast<int32_t>(RowLayout::groups_bytes(matmul.codec, matmul.dtype, matmul.k));
  launch.x_stride = (launch.k + kChunk - 1) / kChunk * kChunk;
  for (int i = 0; i < launch.run_count; ++i) {
    const auto stride = static_cast<int64_t>(launch.runs[i].row_stride_bytes);
    // There is no room for headers as long as that anyway.
    const int64_t header = std::min<int64_t>(stride - launch.groups_bytes, queue.shared_bytes);
    launch.header_bytes = std::max(launch.header_bytes, static_cast<int32_t>(header));
  }
  return launch;
}

/// Token rows that a launch has room for; 0: none.
template <CodecId kCodec, typename T>
int most_tokens(CodedLaunch launch, const Queue& queue) {
  int most = kMostLaunchTokens;
  while (most > 0 && !divide_memory<kCodec, T>(launch, most, queue)) most /= 2;
  return most;
}

template <CodecId kCodec, typename T>
void multiply_coded(const MatmulRuns& matmul, const NormRows* norm, Queue& queue) {
  auto launch = describe(matmul, queue);
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
    launch.x += most * launch.x_stride_bytes;
    for (int i = 0; i < launch.run_count; ++i) {
      launch.runs[i].out += most * launch.runs[i].out_stride;
    }
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
           return coding.most_tokens(describe(matmul, queue), queue) > 0;
         });
}

void canonical_matmul_coded(const MatmulRuns& matmul, const NormRows* norm, Queue& queue) {
  dispatch_coding(matmul, [&](auto coding) { coding.multiply(matmul, norm, queue); });
}

}  // namespace headrace::cuda
