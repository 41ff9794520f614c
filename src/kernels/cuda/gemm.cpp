#include "kernels/cuda/gemm.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <span>
#include <utility>

#include "kernels/cuda/cuda_check.h"

namespace headrace::cuda {
namespace {

constexpr int kAsked = 64;           // algorithms that cuBLASLt may propose
constexpr size_t kMostTried = 8;     // of them are timed
constexpr size_t kTimesTried = 2;    // each: the first time may be that of loading its kernel
constexpr size_t kVectorBytes = 16;  // alignment that tensor cores ask for

// What is multiplied to check that all ways give the same bits.
constexpr int64_t kCheckedRows = 2048;
constexpr int64_t kCheckedK = 4096;
constexpr int64_t kCheckedTokens = 512;

void check(cublasStatus_t status, const char* action) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  fail(ErrorCode::kDevice, "[cuda] {} failed: {}", action, cublasLtGetStatusString(status));
}

cudaDataType_t data_type(DType dtype) {
  return dtype == DType::kFloat16 ? CUDA_R_16F : CUDA_R_16BF;
}

template <typename T>
T config(const cublasLtMatmulAlgo_t& algorithm, cublasLtMatmulAlgoConfigAttributes_t attribute) {
  T value = {};
  size_t written = 0;
  check(
      cublasLtMatmulAlgoConfigGetAttribute(&algorithm, attribute, &value, sizeof(value), &written),
      "reading a cuBLASLt algorithm");
  return value;
}

int family_of(const cublasLtMatmulAlgo_t& algorithm) {
  return config<int32_t>(algorithm, CUBLASLT_ALGO_CONFIG_ID);
}

/// Up to a multiple of an eighth of the power of two below, and of 64.
int64_t rounded_tokens(int64_t tokens) {
  const auto power = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(tokens)));
  const int64_t step = std::max<int64_t>(power / 8, 64);
  return (tokens + step - 1) / step * step;
}

bool adds_in_one_order(const cublasLtMatmulAlgo_t& algorithm) {
  return config<int32_t>(algorithm, CUBLASLT_ALGO_CONFIG_SPLITK_NUM) <= 1 &&
         config<uint32_t>(algorithm, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME) ==
             CUBLASLT_REDUCTION_SCHEME_NONE;
}

/// Makes the exact products by the first half of the rows zero. What is computed for them is the
/// order of sums alone, which so shows after an activation's rounding, too: the second half of K is
/// the first one again, in weights negated.
void cancel_sums(std::vector<uint16_t>& values) {
  constexpr uint16_t kSignBit = 0x8000;
  const auto repeat = [&](int64_t row, uint16_t flip) {
    const auto begin = values.begin() + row * kCheckedK;
    std::transform(begin, begin + kCheckedK / 2, begin + kCheckedK / 2,
                   [&](uint16_t value) { return static_cast<uint16_t>(value ^ flip); });
  };
  for (int64_t row = 0; row < kCheckedRows / 2; ++row) repeat(row, kSignBit);
  for (int64_t row = kCheckedRows; row < kCheckedRows + kCheckedTokens; ++row) repeat(row, 0);
}

}  // namespace

Gemm::Gemm(Queue& queue) : queue_(queue) {
  check(cublasLtCreate(&handle_), "starting cuBLASLt");
  cuda::check(cudaMalloc(&workspace_, workspace_bytes()), "allocating cuBLASLt's workspace");
}

Gemm::~Gemm() {
  for (auto& [shape, choice] : choices_) {
    cublasLtMatmulDescDestroy(choice.operation);
    cublasLtMatrixLayoutDestroy(choice.weights);
    cublasLtMatrixLayoutDestroy(choice.x);
    cublasLtMatrixLayoutDestroy(choice.out);
  }
  for (const Timing& timing : timings_) events_.insert(events_.end(), {timing.begin, timing.end});
  for (const cudaEvent_t event : events_) cudaEventDestroy(event);
  cudaFree(workspace_);
  cublasLtDestroy(handle_);
}

bool Gemm::supports(const MatmulArgs& args, const MatrixOutput& output) {
  return args.dtype != DType::kFloat32 && args.k % 8 == 0 &&
         args.x_stride_bytes % kVectorBytes == 0 && output.rows % 8 == 0 && output.stride % 4 == 0;
}

Gemm::Choice Gemm::describe(const Shape& shape) const {
  Choice choice;
  check(cublasLtMatmulDescCreate(&choice.operation, CUBLAS_COMPUTE_32F, CUDA_R_32F),
        "describing a product");
  // cuBLASLt counts in columns: a row-major [rows, k] matrix is a column-major [k, rows] one.
  const cublasOperation_t transposed = CUBLAS_OP_T;
  check(cublasLtMatmulDescSetAttribute(choice.operation, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                       sizeof(transposed)),
        "describing a product");
  const auto layout = [&](cublasLtMatrixLayout_t& made, cudaDataType_t type, int64_t rows,
                          int64_t columns, int64_t stride) {
    check(cublasLtMatrixLayoutCreate(&made, type, static_cast<uint64_t>(rows),
                                     static_cast<uint64_t>(columns), stride),
          "describing a matrix");
  };
  const cudaDataType_t type = data_type(shape.dtype);
  layout(choice.weights, type, shape.k, shape.rows, shape.weight_stride);
  layout(choice.x, type, shape.k, shape.tokens, shape.x_stride);
  layout(choice.out, CUDA_R_32F, shape.rows, shape.tokens, shape.out_stride);
  choice.tokens = shape.tokens;
  return choice;
}

/// Algorithms that may be used for a shape, those that cuBLASLt expects to be quickest first.
std::vector<Gemm::Candidate> Gemm::candidates(const Choice& described, const Shape& shape) {
  cublasLtMatmulPreference_t preference = nullptr;
  check(cublasLtMatmulPreferenceCreate(&preference), "choosing an algorithm");
  const size_t workspace = kWorkspaceBytes;
  const uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_NONE;
  cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                       &workspace, sizeof(workspace));
  cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                                       &schemes, sizeof(schemes));
  std::array<cublasLtMatmulHeuristicResult_t, kAsked> found = {};
  int count = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      handle_, described.operation, described.weights, described.x, described.out, described.out,
      preference, kAsked, found.data(), &count);
  cublasLtMatmulPreferenceDestroy(preference);
  check(status, "choosing an algorithm");
  std::vector<Candidate> usable;
  for (int i = 0; i < count && usable.size() < kMostTried; ++i) {
    const auto& result = found[static_cast<size_t>(i)];
    if (result.state != CUBLAS_STATUS_SUCCESS || !adds_in_one_order(result.algo)) continue;
    if (family_ < 0) family_ = family_of(result.algo);
    if (family_of(result.algo) != family_) continue;
    usable.push_back({.algorithm = result.algo});
  }
  if (usable.empty()) {
    fail(ErrorCode::kDevice,
         "[cuda] cuBLASLt has no algorithm without split-K for {} x {} weights and {} token rows: "
         "build the engine with --canonical_rows all",
         shape.rows, shape.k, shape.tokens);
  }
  return usable;
}

void Gemm::set_tokens(Choice& choice, int64_t tokens) {
  if (choice.tokens == tokens) return;
  const auto columns = static_cast<uint64_t>(tokens);
  for (const cublasLtMatrixLayout_t layout : {choice.x, choice.out}) {
    check(cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_COLS, &columns,
                                           sizeof(columns)),
          "describing a matrix");
  }
  choice.tokens = tokens;
}

void Gemm::run_choice(Choice& choice, const MatmulRun& run, const std::byte* x, int64_t tokens) {
  set_tokens(choice, tokens);
  const size_t count = choice.candidates.size();
  const bool timed = count > 1 && choice.begun < count * kTimesTried;
  const size_t candidate = timed ? choice.begun++ % count : choice.best;
  const cudaEvent_t begin = timed ? record_event() : nullptr;
  const float alpha = 1.0f;
  const float beta = run.accumulate != 0 ? 1.0f : 0.0f;
  check(cublasLtMatmul(handle_, choice.operation, &alpha, run.weights, choice.weights, x, choice.x,
                       &beta, run.out, choice.out, run.out, choice.out,
                       &choice.candidates[candidate].algorithm, workspace_, kWorkspaceBytes,
                       queue_.stream),
        "multiplying");
  queue_.may_overlap = queue_.can_overlap;  // its end is the end of all before it
  if (timed) timings_.push_back({&choice, candidate, tokens, begin, record_event()});
}

cudaEvent_t Gemm::record_event() {
  cudaEvent_t event = nullptr;
  if (events_.empty()) {
    cuda::check(cudaEventCreate(&event), "creating an event");
  } else {
    event = events_.back();
    events_.pop_back();
  }
  cuda::check(cudaEventRecord(event, queue_.interrupted()), "timing a product");
  return event;
}

/// Takes the times of products that have ended; waits for none.
void Gemm::collect_timings() {
  if (timings_.empty()) return;
  cuda::check(cudaGetLastError(), "launching a kernel");
  while (!timings_.empty() && cudaEventQuery(timings_.front().end) == cudaSuccess) {
    const Timing timing = timings_.front();
    timings_.pop_front();
    float ms = 0;
    cuda::check(cudaEventElapsedTime(&ms, timing.begin, timing.end), "timing a product");
    events_.insert(events_.end(), {timing.begin, timing.end});
    Choice& choice = *timing.choice;
    std::vector<Candidate>& all = choice.candidates;
    Candidate& candidate = all[timing.candidate];
    candidate.ms = std::min(candidate.ms, ms / static_cast<float>(timing.tokens));
    if (++choice.timed < all.size() * kTimesTried) continue;
    choice.best =
        static_cast<size_t>(std::ranges::min_element(all, {}, &Candidate::ms) - all.begin());
  }
  cudaGetLastError();  // cudaErrorNotReady, which is none
}

Gemm::Choice& Gemm::choose(const Shape& shape) {
  const auto known = choices_.find(shape);
  if (known != choices_.end()) return known->second;
  Choice choice = describe(shape);
  choice.candidates = candidates(choice, shape);
  return choices_.emplace(shape, std::move(choice)).first->second;
}

void Gemm::multiply(const MatmulRuns& matmul) {
  if (own_for_few_ && matmul.tokens <= kMostMatrixTokens) {
    matrix_matmul(matmul, queue_);
    return;
  }
  collect_timings();
  for (const MatmulRun& run : std::span(matmul.runs, static_cast<size_t>(matmul.run_count))) {
    multiply(matmul, run);
  }
}

void Gemm::multiply(const MatmulRuns& matmul, const MatmulRun& run) {
  const auto element = static_cast<int64_t>(dtype_size(matmul.dtype));
  const Shape shape = {.dtype = matmul.dtype,
                       .rows = run.rows,
                       .tokens = rounded_tokens(matmul.tokens),
                       .k = matmul.k,
                       .weight_stride = static_cast<int64_t>(run.row_stride_bytes) / element,
                       .x_stride = static_cast<int64_t>(matmul.x_stride_bytes) / element,
                       .out_stride = run.out_stride};
  run_choice(choose(shape), run, matmul.x, matmul.tokens);
  if (run.bias == nullptr) return;
  add_bias(run.out, run.out_stride, matmul.tokens, run.rows, run.bias, queue_);
}

bool Gemm::gates(const MatmulArgs& args) const {
  constexpr int64_t kLeastTokens = 4096;  // fewer leave multiprocessors idle in the last wave
  return own_gated_ && args.tokens >= kLeastTokens &&
         std::ranges::all_of(args.outputs, [&](const MatrixOutput& output) {
           return supports(args, output) && output.bias == nullptr && !output.accumulate;
         });
}

bool Gemm::multiply_gated(const MatmulArgs& args, std::span<const GatedRows> stretches) {
  auto* const counters = static_cast<std::byte*>(workspace_) + kWorkspaceBytes;
  const GatedMatmul matmul = {
      .dtype = args.dtype,
      .x = args.x,
      .x_stride_bytes = args.x_stride_bytes,
      .tokens = args.tokens,
      .k = args.k,
      .out_stride_bytes = static_cast<size_t>(args.outputs[0].rows) * dtype_size(args.dtype),
      .started = reinterpret_cast<uint32_t*>(counters)};
  return !stretches.empty() && std::ranges::all_of(stretches, [&](const GatedRows& rows) {
    return gated_matmul(matmul, rows, queue_);
  });
}

/// Whether it gives the bits of products and silu_multiply() apart: of two halves of a checked
/// matrix. `outputs` has room for their products.
bool Gemm::gated_kernel_agrees(DType dtype, const std::byte* first, const std::byte* second,
                               const std::byte* x, float* outputs) {
  constexpr int64_t kRows = kCheckedRows / 2;
  constexpr size_t kBytes = static_cast<size_t>(kRows * kCheckedTokens) * sizeof(uint16_t);
  const size_t stride = static_cast<size_t>(kCheckedK) * dtype_size(dtype);
  GatedRows stretch = {.first = first,
                       .first_stride_bytes = stride,
                       .second = second,
                       .second_stride_bytes = stride,
                       .rows = kRows};
  const std::array<MatrixOutput, 2> halves = {
      MatrixOutput{.rows = kRows, .out = outputs, .stride = kRows},
      MatrixOutput{.rows = kRows, .out = outputs + kRows * kCheckedTokens, .stride = kRows}};
  const MatmulArgs args = {.dtype = dtype,
                           .tokens = kCheckedTokens,
                           .k = kCheckedK,
                           .x = x,
                           .x_stride_bytes = stride,
                           .outputs = halves};
  std::byte* results = nullptr;
  cuda::check(cudaMalloc(reinterpret_cast<void**>(&results), 2 * kBytes), "allocating for a check");
  for (size_t i = 0; i < halves.size(); ++i) {
    const MatmulRun run = {.weights = i == 0 ? first : second,
                           .row_stride_bytes = stride,
                           .out = halves[i].out,
                           .out_stride = kRows,
                           .rows = static_cast<int32_t>(kRows)};
    multiply({.dtype = dtype,
              .runs = &run,
              .run_count = 1,
              .x = x,
              .x_stride_bytes = stride,
              .tokens = kCheckedTokens,
              .k = kCheckedK});
  }
  silu_multiply(halves[0].out, halves[1].out, kRows * kCheckedTokens, dtype, results, queue_);
  stretch.out = results + kBytes;
  std::vector<std::byte> bytes(2 * kBytes);
  const bool ran = multiply_gated(args, std::span(&stretch, 1));
  cuda::check(cudaMemcpyAsync(bytes.data(), results, bytes.size(), cudaMemcpyDeviceToHost,
                              queue_.interrupted()),
              "downloading a check");
  cuda::check(cudaStreamSynchronize(queue_.interrupted()), "a check of products");
  cudaFree(results);
  return ran && std::memcmp(bytes.data(), bytes.data() + kBytes, kBytes) == 0;
}

void Gemm::check_family(DType dtype) {
  constexpr int64_t kRows = kCheckedRows;
  constexpr int64_t kK = kCheckedK;
  constexpr int64_t kTokens = kCheckedTokens;
  const size_t element = dtype_size(dtype);
  std::byte* operands = nullptr;
  float* outputs = nullptr;
  cuda::check(cudaMalloc(reinterpret_cast<void**>(&operands), (kRows + kTokens) * kK * element),
              "allocating for a check");
  cuda::check(cudaMalloc(reinterpret_cast<void**>(&outputs), kRows * kTokens * sizeof(float)),
              "allocating for a check");
  // Numbers of both signs between 0.5 and 2 with random mantissas, so that orders would show.
  std::vector<uint16_t> values(static_cast<size_t>((kRows + kTokens) * kK));
  const uint16_t base = dtype == DType::kFloat16 ? 0x3800 : 0x3f00;
  const uint16_t bits = dtype == DType::kFloat16 ? 0x87ff : 0x80ff;
  uint64_t state = 1;
  for (uint16_t& value : values) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    value = static_cast<uint16_t>(base + (static_cast<uint16_t>(state >> 48) & bits));
  }
  cancel_sums(values);
  cuda::check(cudaMemcpyAsync(operands, values.data(), values.size() * element,
                              cudaMemcpyHostToDevice, queue_.interrupted()),
              "uploading a check");
  const std::byte* x = operands + static_cast<size_t>(kRows * kK) * element;
  const auto product = [&](int64_t rows, int64_t tokens) {
    for (int64_t row = 0; row < kRows; row += rows) {
      const MatmulRun run = {.weights = operands + static_cast<size_t>(row * kK) * element,
                             .row_stride_bytes = static_cast<size_t>(kK) * element,
                             .out = outputs + row,
                             .out_stride = kRows,
                             .rows = static_cast<int32_t>(rows)};
      multiply({.dtype = dtype,
                .runs = &run,
                .run_count = 1,
                .x = x,
                .x_stride_bytes = static_cast<size_t>(kK) * element,
                .tokens = tokens,
                .k = kK});
    }
    std::vector<float> result(static_cast<size_t>(kRows * tokens));
    cuda::check(cudaMemcpyAsync(result.data(), outputs, result.size() * sizeof(float),
                                cudaMemcpyDeviceToHost, queue_.interrupted()),
                "downloading a check");
    cuda::check(cudaStreamSynchronize(queue_.interrupted()), "a check of cuBLASLt");
    return result;
  };
  own_for_few_ = false;
  const std::vector<float> whole = product(kRows, kTokens);
  const auto agrees = [&](int64_t rows, int64_t tokens) {
    const std::vector<float> part = product(rows, tokens);
    return std::memcmp(part.data(), whole.data(), part.size() * sizeof(float)) == 0;
  };
  bool same = agrees(512, kTokens) && agrees(kRows, 9) && agrees(128, 40) && agrees(kRows, 1);
  for (size_t i = 1; i < kMostTried; ++i) same = same && agrees(kRows, kTokens);  // all candidates
  own_for_few_ = true;
  own_for_few_ = agrees(kRows, 9) && agrees(128, 40) && agrees(kRows, 64);
  const std::byte* const half = operands + static_cast<size_t>(kRows / 2 * kK) * element;
  own_gated_ = gated_kernel_agrees(dtype, operands, half, x, outputs) &&
               gated_kernel_agrees(dtype, half, operands, x, outputs);
  cudaFree(operands);
  cudaFree(outputs);
  if (!same) {
    fail(ErrorCode::kDevice,
         "[cuda] on this device cuBLASLt's sums depend on how a matrix is cut: build the engine "
         "with --canonical_rows all");
  }
}

}  // namespace headrace::cuda
