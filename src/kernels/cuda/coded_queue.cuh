#pragma once

#include <algorithm>

#include "kernels/cuda/bulk_copy.cuh"
#include "kernels/cuda/coded_row.cuh"

/// Coded rows on their way through shared memory, as bulk_copy.cuh has it for raw ones.
namespace headrace::cuda {

struct CodedLaunch : BulkLaunch {
  int32_t groups_bytes;  // of a row: what comes before is its header, the book and the escapes
  int32_t header_bytes;  // the longest header of a run
  int32_t headers;       // row groups whose headers a warp has room for
  int32_t x_stride;      // k, up to a whole chunk
  int32_t shared_bytes;
};

/// How a block shares the work.
template <CodecId kCodecId, typename Type, int kRowCount, int kTokenCount, int kWarpCount>
struct CodedShape : GroupShape<kCodecId, Type> {
  using T = Type;
  static constexpr CodecId kCodec = kCodecId;
  static constexpr int kRows = kRowCount;      // of a warp at a time
  static constexpr int kTokens = kTokenCount;  // rows past the launch's tokens go nowhere
  static constexpr int kWarps = kWarpCount;
  static constexpr int kThreads = kWarps * 32;
  static constexpr int kStageBytes = kRows * GroupShape<kCodecId, Type>::kBytes;  // of a warp
  /// Whether groups without escapes have code of their own: of 3-bit codes there are hardly any, and
  /// with many token rows they gain less than the code costs.
  static constexpr bool kHasPlain = kCodec != CodecId::kE3 && kTokens <= 2;
};

/// What a warp knows of the rows that it multiplies.
template <typename Shape>
struct CodedRow {
  CodeBook<Shape::kCodec, typename Shape::T> book;
  const std::byte* escapes;
  int escapes_before;  // of the groups so far

  /// `header`: the row's first bytes.
  __device__ __forceinline__ void begin(const std::byte* header) {
    book.read(*reinterpret_cast<const uint4*>(header));
    escapes = header + kBookBytes;
    escapes_before = 0;
  }
};

/// The copies of a warp, group by group of each group of rows; the first with the rows' headers.
template <typename Shape>
class CodedQueue {
 public:
  __device__ __forceinline__ CodedQueue(const CodedLaunch& launch, int warp, std::byte* shared,
                                        Arrival* arrived)
      : launch_(launch),
        stages_(shared + warp * launch.stages * Shape::kStageBytes),
        headers_(shared + Shape::kWarps * launch.stages * Shape::kStageBytes +
                 warp * launch.headers * Shape::kRows * launch.header_bytes),
        arrived_(arrived),
        ahead_(launch, warp) {
    begin_rows();
  }

  __device__ __forceinline__ const std::byte* stage(int index) const {
    return stages_ + index * Shape::kStageBytes;
  }
  __device__ __forceinline__ std::byte* header(int index, int r) const {
    return headers_ + (index * Shape::kRows + r) * launch_.header_bytes;
  }
  __device__ __forceinline__ int next_header(int index) const {
    return index + 1 == launch_.headers ? 0 : index + 1;
  }
  __device__ __forceinline__ int header_bytes(const MatmulRun& run) const {
    return static_cast<int>(run.row_stride_bytes) - launch_.groups_bytes;
  }

  __device__ __forceinline__ void copy_next(int stage) {
    if (ahead_.done()) return;
    Arrival& arrival = arrived_[stage];
    const int size = Shape::bytes(min(kGroupChunks, left_));
    if (elect_thread()) {
      arrival.expect(Shape::kRows * (header_left_ + size));
#pragma unroll
      for (int r = 0; r < Shape::kRows; ++r) {
        const std::byte* const from = from_ + rows_.offset(r);
        if (header_left_ > 0) arrival.copy(header(header_, r), from, header_left_);
        arrival.copy(stages_ + stage * Shape::kStageBytes + r * Shape::kBytes, from + header_left_,
                     size);
      }
    }
    from_ += header_left_ + size;
    header_left_ = 0;
    left_ -= kGroupChunks;
    if (left_ > 0) return;
    header_ = next_header(header_);
    ahead_.advance();
    begin_rows();
  }

 private:
  __device__ __forceinline__ void begin_rows() {
    if (ahead_.done()) return;
    rows_ = ahead_.rows();
    from_ = rows_.first;
    header_left_ = header_bytes(ahead_.run());
    left_ = launch_.x_stride / kChunk;
  }

  const CodedLaunch& launch_;
  std::byte* const stages_;
  std::byte* const headers_;
  Arrival* const arrived_;
  RowGroups<Shape::kRows, Shape::kWarps> ahead_;
  GroupRows rows_;
  const std::byte* from_ = nullptr;  // of the first row
  int header_left_ = 0;              // bytes
  int left_ = 0;                     // chunks
  int header_ = 0;                   // of the rows ahead
};

/// Divides shared memory up; false if it is not enough.
template <typename Shape>
bool divide_memory(CodedLaunch& launch, const Queue& queue) {
  constexpr int kFewestStages = 2;
  constexpr int64_t kQueueBytes = 176 << 10;  // of all warps: as much is on its way at any time
  constexpr int64_t kStage = int64_t{Shape::kWarps} * Shape::kStageBytes;
  const int64_t header_bytes = int64_t{Shape::kWarps} * Shape::kRows * launch.header_bytes;
  const int64_t x_bytes =
      static_cast<int64_t>(Shape::kTokens) * launch.x_stride * sizeof(typename Shape::T);
  const int row_stages = (launch.x_stride + kGroupColumns - 1) / kGroupColumns;
  launch.stages = static_cast<int32_t>(std::min<int64_t>(kMostStages, kQueueBytes / kStage));
  for (; launch.stages >= kFewestStages; --launch.stages) {
    // The stages that follow one another from any on are of so many row groups at most.
    launch.headers = (launch.stages - 1 + row_stages - 1) / row_stages + 1;
    const int64_t bytes = launch.stages * kStage + launch.headers * header_bytes + x_bytes;
    launch.shared_bytes = static_cast<int32_t>(std::min<int64_t>(bytes, queue.shared_bytes));
    if (bytes <= queue.shared_bytes - kBulkStaticBytes) return true;
  }
  return false;
}

inline CodedLaunch describe_coded(const MatmulRuns& matmul, const Queue& queue) {
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

}  // namespace headrace::cuda
