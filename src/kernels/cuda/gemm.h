#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <map>
#include <span>
#include <tuple>
#include <vector>

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include "kernels/backend.h"
#include "kernels/cuda/launchers.h"
#include "tensor/dtype.h"

namespace headrace::cuda {

/// The matrix class (docs/numerics.md): products of many token rows on tensor cores, through
/// cuBLASLt, or for few of them by a kernel of our own that reads memory faster. Of cuBLASLt's only
/// algorithms that add each output's products in one order, given by K alone, are used: no split-K,
/// no stream-K, and all of one family, so that neither the rows of a launch nor the number of token
/// rows changes a bit. check_family() proves it at start-up. Used by one thread.
class Gemm {
 public:
  explicit Gemm(Queue& queue);
  ~Gemm();
  Gemm(const Gemm&) = delete;
  Gemm& operator=(const Gemm&) = delete;

  /// Whether this class multiplies with such a matrix; otherwise it is the canonical class's at
  /// every row count. Tensor cores want whole vectors: of K, and of rows, which keeps every run's
  /// rows a multiple of 4 too. Depends on the matrix alone, not on its cuts.
  static bool supports(const MatmulArgs& args, const MatrixOutput& output);

  /// out = W x + bias, or out += W x, then + bias, for every run.
  void multiply(const MatmulRuns& matmul);

  /// Whether multiply_gated() is for such a group: of many token rows, where the kernel has this
  /// device's bits.
  bool gates(const MatmulArgs& args) const;
  /// Backend::gated_matmul, packed, of stretches that make up the group (gated_rows.h). False if
  /// they cannot be multiplied so; some of `out` may then have been written.
  bool multiply_gated(const MatmulArgs& args, std::span<const GatedRows> stretches);

  /// Compares products of a whole matrix with those of its parts, of few with those of many token
  /// rows, and those of all candidates, by bits. Error{kDevice} if they differ. The kernels of our
  /// own, for few token rows and for gated groups, are used if they agree. Takes some milliseconds
  /// and 64 MiB, which are given back.
  void check_family(DType dtype);

  size_t workspace_bytes() const { return kWorkspaceBytes + kCounterBytes; }

 private:
  static constexpr size_t kWorkspaceBytes = size_t{4} << 20;
  static constexpr size_t kCounterBytes = static_cast<size_t>(kGatedWaves) * sizeof(uint32_t);

  /// Everything that an algorithm is chosen for.
  struct Shape {
    DType dtype = DType::kFloat16;
    int64_t rows = 0;
    int64_t tokens = 0;  // rounded up: passes of nearly as many token rows share what was found
    int64_t k = 0;
    int64_t weight_stride = 0;  // elements
    int64_t x_stride = 0;       // elements
    int64_t out_stride = 0;     // elements
    auto operator<=>(const Shape&) const = default;
  };
  struct Candidate {
    cublasLtMatmulAlgo_t algorithm = {};
    float ms = std::numeric_limits<float>::infinity();  // of a token row, the shortest so far
  };
  /// How products of a shape are made. All candidates give the same bits, so the quickest is found
  /// among them while they do the work: the first products of a shape take turns with them.
  struct Choice {
    cublasLtMatmulDesc_t operation = nullptr;
    cublasLtMatrixLayout_t weights = nullptr;
    cublasLtMatrixLayout_t x = nullptr;
    cublasLtMatrixLayout_t out = nullptr;
    int64_t tokens = 0;                 // that the layouts of x and out have now
    std::vector<Candidate> candidates;  // those that cuBLASLt expects to be quickest first
    size_t begun = 0;                   // products that were timed, or are being timed
    size_t timed = 0;
    size_t best = 0;  // candidate
  };
  /// A product that is being timed. Choices stay where they are, in a map.
  struct Timing {
    Choice* choice = nullptr;
    size_t candidate = 0;
    int64_t tokens = 0;
    cudaEvent_t begin = nullptr;
    cudaEvent_t end = nullptr;
  };

  void multiply(const MatmulRuns& matmul, const MatmulRun& run);
  Choice& choose(const Shape& shape);
  Choice describe(const Shape& shape) const;
  std::vector<Candidate> candidates(const Choice& described, const Shape& shape);
  static void set_tokens(Choice& choice, int64_t tokens);
  void run_choice(Choice& choice, const MatmulRun& run, const std::byte* x, int64_t tokens);
  bool gated_kernel_agrees(DType dtype, const std::byte* first, const std::byte* second,
                           const std::byte* x, float* outputs);
  void collect_timings();
  cudaEvent_t record_event();

  Queue& queue_;
  cublasLtHandle_t handle_ = nullptr;
  void* workspace_ = nullptr;  // cuBLASLt's, then counters of gated_matmul()
  bool own_for_few_ = false;   // matrix_matmul() gives this device's bits
  bool own_gated_ = false;     // gated_matmul() does
  int family_ = -1;            // id of the algorithms that may be used; -1: not settled yet
  std::map<Shape, Choice> choices_;
  std::deque<Timing> timings_;       // in the order of the queue
  std::vector<cudaEvent_t> events_;  // that no timing uses
};

}  // namespace headrace::cuda
