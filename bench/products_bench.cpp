// The products of a Llama-7B layer alone in cuBLASLt, as the limit of prefill: float16 operands,
// fp32 outputs (those of dense and proj added to), no split-K, the quickest of what cuBLASLt
// proposes. On a machine with a GPU: ./build/bin/products_bench [TOKEN_ROWS [ROUNDS]]

#include <algorithm>
#include <array>
#include <cstdio>
#include <exception>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include "stream_support.h"
#include "tensor/float16.h"

namespace headrace::bench {
namespace {

constexpr int kProposals = 8;
constexpr int kRepeats = 3;
constexpr size_t kWorkspaceBytes = size_t{4} << 20;
constexpr int64_t kLayers = 32;
constexpr size_t kRandomValues = size_t{1} << 20;  // repeated

struct Product {
  const char* name;
  int64_t rows;
  int64_t k;
  bool accumulates;
};
constexpr std::array kProducts = {
    Product{"qkv", 12288, 4096, false}, Product{"dense", 4096, 4096, true},
    Product{"fc", 11008, 4096, false}, Product{"gate", 11008, 4096, false},
    Product{"proj", 4096, 11008, true}};

void check(cudaError_t status) {
  if (status != cudaSuccess) throw std::runtime_error(cudaGetErrorString(status));
}
void check(cublasStatus_t status) {
  if (status != CUBLAS_STATUS_SUCCESS) throw std::runtime_error(cublasLtGetStatusString(status));
}

/// Memory of the device, until the program ends.
void* allocate(int64_t bytes) {
  void* memory = nullptr;
  check(cudaMalloc(&memory, static_cast<size_t>(bytes)));
  return memory;
}

/// Gaussian numbers: what the card draws, and so its clock, depends on them.
void* random_operand(int64_t count, float deviation, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> values(0.0f, deviation);
  std::vector<uint16_t> some(kRandomValues);
  for (uint16_t& bits : some) bits = float_to_float16(values(random));
  auto* const memory = static_cast<uint16_t*>(allocate(count * 2));
  for (int64_t at = 0; at < count; at += static_cast<int64_t>(some.size())) {
    const auto left = static_cast<size_t>(count - at);
    check(cudaMemcpy(memory + at, some.data(), std::min(left, some.size()) * sizeof(uint16_t),
                     cudaMemcpyHostToDevice));
  }
  return memory;
}

class ProductTimer {
 public:
  ProductTimer(const Product& product, int64_t tokens, cublasLtHandle_t handle, const void* weights,
               const void* x, float* out, void* workspace)
      : product_(product),
        handle_(handle),
        weights_(weights),
        x_(x),
        out_(out),
        workspace_(workspace) {
    check(cublasLtMatmulDescCreate(&operation_, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    const cublasOperation_t transposed = CUBLAS_OP_T;
    check(cublasLtMatmulDescSetAttribute(operation_, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                         sizeof(transposed)));
    const auto k = static_cast<uint64_t>(product.k);
    const auto rows = static_cast<uint64_t>(product.rows);
    const auto columns = static_cast<uint64_t>(tokens);
    check(cublasLtMatrixLayoutCreate(&a_, CUDA_R_16F, k, rows, product.k));
    check(cublasLtMatrixLayoutCreate(&b_, CUDA_R_16F, k, columns, product.k));
    check(cublasLtMatrixLayoutCreate(&c_, CUDA_R_32F, rows, columns, product.rows));
    check(cudaEventCreate(&begin_));
    check(cudaEventCreate(&end_));
    choose();
  }

  /// Milliseconds of one product, the mean of some in a row.
  float ms() const { return ms(algorithm_); }

 private:
  void choose() {
    cublasLtMatmulPreference_t preference = nullptr;
    check(cublasLtMatmulPreferenceCreate(&preference));
    const size_t workspace = kWorkspaceBytes;
    const uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_NONE;
    check(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                               &workspace, sizeof(workspace)));
    check(cublasLtMatmulPreferenceSetAttribute(
        preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes, sizeof(schemes)));
    std::array<cublasLtMatmulHeuristicResult_t, kProposals> proposals = {};
    int count = 0;
    check(cublasLtMatmulAlgoGetHeuristic(handle_, operation_, a_, b_, c_, c_, preference,
                                         kProposals, proposals.data(), &count));
    cublasLtMatmulPreferenceDestroy(preference);
    float best = std::numeric_limits<float>::infinity();
    for (int i = 0; i < count; ++i) {
      const auto& algorithm = proposals[static_cast<size_t>(i)].algo;
      ms(algorithm);  // loads its kernel
      const float taken = ms(algorithm);
      if (taken < best) algorithm_ = algorithm;
      best = std::min(best, taken);
    }
  }

  float ms(const cublasLtMatmulAlgo_t& algorithm) const {
    const float alpha = 1.0f;
    const float beta = product_.accumulates ? 1.0f : 0.0f;
    check(cudaEventRecord(begin_));
    for (int i = 0; i < kRepeats; ++i) {
      check(cublasLtMatmul(handle_, operation_, &alpha, weights_, a_, x_, b_, &beta, out_, c_, out_,
                           c_, &algorithm, workspace_, kWorkspaceBytes, nullptr));
    }
    check(cudaEventRecord(end_));
    check(cudaEventSynchronize(end_));
    float taken = 0;
    check(cudaEventElapsedTime(&taken, begin_, end_));
    return taken / kRepeats;
  }

  const Product product_;
  const cublasLtHandle_t handle_;
  const void* const weights_;
  const void* const x_;
  float* const out_;
  void* const workspace_;
  cublasLtMatmulDesc_t operation_ = nullptr;
  cublasLtMatrixLayout_t a_ = nullptr;
  cublasLtMatrixLayout_t b_ = nullptr;
  cublasLtMatrixLayout_t c_ = nullptr;
  cublasLtMatmulAlgo_t algorithm_ = {};
  cudaEvent_t begin_ = nullptr;
  cudaEvent_t end_ = nullptr;
};

void run(int64_t tokens, int rounds) {
  cublasLtHandle_t handle = nullptr;
  check(cublasLtCreate(&handle));
  int64_t most_weights = 0;
  int64_t most_k = 0;
  int64_t most_rows = 0;
  for (const Product& product : kProducts) {
    most_weights = std::max(most_weights, product.rows * product.k);
    most_k = std::max(most_k, product.k);
    most_rows = std::max(most_rows, product.rows);
  }
  const void* const weights = random_operand(most_weights, 0.02f, 1);
  const void* const x = random_operand(tokens * most_k, 1.0f, 2);
  auto* const out = static_cast<float*>(allocate(tokens * most_rows * 4));
  void* const workspace = allocate(kWorkspaceBytes);
  std::vector<ProductTimer> timers;
  for (const Product& product : kProducts) {
    timers.emplace_back(product, tokens, handle, weights, x, out, workspace);
  }
  std::vector<std::vector<double>> times(kProducts.size());
  for (int round = 0; round < rounds; ++round) {
    for (size_t i = 0; i < timers.size(); ++i) times[i].push_back(timers[i].ms());
  }
  double layer = 0;
  for (size_t i = 0; i < timers.size(); ++i) {
    const Product& product = kProducts[i];
    const double taken = median(times[i]);
    const auto flops = 2.0 * static_cast<double>(tokens * product.rows * product.k);
    std::printf("%-6s %.3f ms, %.0f Tflop/s\n", product.name, taken, flops / taken / 1e9);
    layer += taken;
  }
  std::printf("a layer %.3f ms; %lld layers %.0f ms\n", layer, static_cast<long long>(kLayers),
              layer * kLayers);
}

}  // namespace
}  // namespace headrace::bench

int main(int argc, char** argv) {
  try {
    headrace::bench::run(argc > 1 ? std::stoll(argv[1]) : 65536, argc > 2 ? std::stoi(argv[2]) : 5);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "products_bench: %s\n", error.what());
    return 1;
  }
}
