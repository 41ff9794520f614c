// The kernels of the CPU backend beside what the machine can do. Each benchmark measures its limit
// right before and after itself (machines drift) and reports its share of the mean:
//   matmul at 1 token row: GB/s of weights, and share of a plain read of the same memory
//   matmul at 8 rows or more: GFLOP/s, and share of independent multiply-adds in registers
// Of coded rows (codec/row_code.h) the GB/s are those of the raw weights that they stand for.
// Run: kernels_bench [--threads=N] [--benchmark_filter=...]

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <benchmark/benchmark.h>

#include "base/thread_pool.h"
#include "codec/row_code.h"
#include "kernels/backend.h"
#include "machine_limits.h"
#include "tensor/dtype.h"
#include "tensor/float16.h"

namespace headrace::bench {
namespace {

/// Larger than the caches of common processors, so that a matrix has left them when its turn comes.
constexpr size_t kArenaBytes = size_t{384} << 20;
constexpr int64_t kMostTokens = 512;
constexpr int64_t kMostWidth = 11008;

struct Machine {
  explicit Machine(int threads)
      : pool(threads),
        backend(make_cpu_backend(pool, detect_cpu_isa())),
        arena(backend->allocate(kArenaBytes, "benchmark weights")),
        coded_arena(backend->allocate(kArenaBytes, "benchmark weights")) {
    // The same 64 KiB of numbers near 1/32 all over: speed does not depend on their values.
    std::mt19937 engine(1);
    std::vector<uint16_t> numbers(32 * 1024);
    for (uint16_t& bits : numbers) bits = static_cast<uint16_t>(0x2800u + engine() % 0x800u);
    const size_t bytes = numbers.size() * 2;
    for (size_t at = 0; at < kArenaBytes; at += bytes) {
      std::memcpy(arena.data() + at, numbers.data(), bytes);
    }
    backend->reserve({.max_tokens = kMostTokens, .max_k = kMostWidth});
  }

  double read_gbps() { return measure_read_gbps(pool, arena.bytes()); }
  double fma_gflops() { return measure_fma_gflops(pool); }

  ThreadPool pool;
  std::unique_ptr<Backend> backend;
  Buffer arena;
  Buffer coded_arena;  // of the benchmark that runs
};

/// Hands one matrix out whole.
class WholeMatrix : public WeightFeed {
 public:
  explicit WholeMatrix(const WeightRun& run) : run_(run) {}
  bool next(Lease& lease) override {
    if (done_) return false;
    done_ = true;
    lease = Lease(nullptr, 0, std::span(&run_, 1));
    return true;
  }

 private:
  WeightRun run_;
  bool done_ = false;
};

struct Shape {
  DType dtype;
  int64_t rows;
  int64_t k;
  int64_t tokens;
  CodecId codec = CodecId::kRaw;
};

/// Codes of gaussian weights of a matrix's usual scale: a few rows, again and again.
struct CodedWeights {
  static constexpr size_t kRows = 64;

  explicit CodedWeights(const Shape& shape) {
    std::mt19937 engine(1);
    std::normal_distribution<float> weight(0.0f, 1.0f / std::sqrt(static_cast<float>(shape.k)));
    std::vector<uint16_t> elements(kRows * static_cast<size_t>(shape.k));
    for (uint16_t& bits : elements) {
      bits = shape.dtype == DType::kFloat16 ? float_to_float16(weight(engine))
                                            : float_to_bfloat16(weight(engine));
    }
    rows = encode_rows(shape.codec, shape.dtype, shape.k, elements);
  }
  void fill(std::span<std::byte> memory) const {
    const std::vector<std::byte>& bytes = rows.bytes;
    for (size_t at = 0; at < memory.size(); at += bytes.size()) {
      std::memcpy(memory.data() + at, bytes.data(), std::min(bytes.size(), memory.size() - at));
    }
  }

  CodedRows rows;
};

void run_matmul(benchmark::State& state, Machine& machine, const Shape& shape) {
  const size_t row_bytes = static_cast<size_t>(shape.k) * dtype_size(shape.dtype);
  const size_t matrix_bytes = static_cast<size_t>(shape.rows) * row_bytes;
  size_t stride = row_bytes;
  const std::byte* arena = machine.arena.data();
  if (shape.codec != CodecId::kRaw) {
    const CodedWeights coded(shape);
    coded.fill(machine.coded_arena.bytes());
    stride = coded.rows.stride_bytes;
    arena = machine.coded_arena.data();
  }
  const size_t stored_bytes = static_cast<size_t>(shape.rows) * stride;
  const size_t matrices = std::max<size_t>(1, (kArenaBytes - 64) / stored_bytes);
  const Buffer x = machine.backend->allocate(static_cast<size_t>(shape.tokens) * row_bytes, "x");
  std::memcpy(x.data(), machine.arena.data(), x.size_bytes());
  const Buffer out = machine.backend->allocate(
      static_cast<size_t>(shape.tokens * shape.rows) * sizeof(float), "out");
  const std::array outputs = {
      MatrixOutput{.rows = shape.rows, .out = out.floats(), .stride = shape.rows}};
  const MatmulArgs args = {.dtype = shape.dtype,
                           .tokens = shape.tokens,
                           .k = shape.k,
                           .x = x.data(),
                           .x_stride_bytes = row_bytes,
                           .outputs = outputs};
  const bool memory_bound = shape.tokens < 8;
  const auto limit = [&] { return memory_bound ? machine.read_gbps() : machine.fma_gflops(); };
  const double before = limit();
  size_t which = 0;
  for (auto _ : state) {
    WholeMatrix weights({.data = arena + which * stored_bytes,
                         .rows = shape.rows,
                         .row_stride_bytes = stride,
                         .codec = shape.codec});
    machine.backend->matmul(args, weights);
    which = (which + 1) % matrices;
  }
  const double most = (before + limit()) / 2;
  const double bytes = static_cast<double>(matrix_bytes) * static_cast<double>(state.iterations());
  const double flop = 2.0 * static_cast<double>(shape.rows * shape.k * shape.tokens) *
                      static_cast<double>(state.iterations());
  using benchmark::Counter;
  state.counters["GB/s"] = Counter(bytes / 1e9, Counter::kIsRate);
  state.counters["GFLOP/s"] = Counter(flop / 1e9, Counter::kIsRate);
  state.counters[memory_bound ? "of_read" : "of_fma"] =
      Counter((memory_bound ? bytes : flop) / 1e9 / most, Counter::kIsRate);
  state.counters[memory_bound ? "read_GB/s" : "fma_GFLOP/s"] = most;
  if (shape.codec != CodecId::kRaw) {
    state.counters["bits"] = 8.0 * static_cast<double>(stride) / static_cast<double>(shape.k);
  }
}

/// One token after a context, or a prompt's last 512 tokens, of one sequence of SmolLM2's shape.
void run_attention(benchmark::State& state, Machine& machine, int64_t position, int64_t rows) {
  const KvShape shape{.layers = 1, .kv_heads = 3, .head_dim = 64, .dtype = DType::kFloat16};
  constexpr int64_t kHeads = 9;
  const int64_t blocks = shape.blocks_for(position + rows);
  std::vector<int32_t> table;
  for (int64_t b = 0; b < blocks; ++b) table.push_back(static_cast<int32_t>(b));
  const Buffer kv =
      machine.backend->allocate(static_cast<size_t>(blocks) * shape.block_bytes(), "kv");
  std::memcpy(kv.data(), machine.arena.data(), kv.size_bytes());
  const int64_t width = (kHeads + 2 * shape.kv_heads) * shape.head_dim;
  const std::vector<float> qkv(static_cast<size_t>(rows * width), 0.01f);
  std::vector<std::byte> out(static_cast<size_t>(rows * kHeads * shape.head_dim) * 2);
  const std::array sequences = {
      SequenceRows{.row_begin = 0, .rows = rows, .position = position, .blocks = table}};
  for (auto _ : state) {
    machine.backend->attention(
        {.tokens = rows,
         .heads = kHeads,
         .kv_heads = shape.kv_heads,
         .head_dim = shape.head_dim,
         .scale = 0.125f,
         .qkv = qkv.data(),
         .qkv_stride = width,
         .sequences = sequences,
         .kv = {.k = kv.data(), .v = kv.data() + 2 * shape.block_elements(), .shape = shape},
         .out_dtype = DType::kFloat16,
         .out = out.data()});
  }
  const double pairs = static_cast<double>(rows) *
                       (static_cast<double>(position) + static_cast<double>(rows + 1) / 2);
  const double flop = 4.0 * pairs * static_cast<double>(kHeads * shape.head_dim) *
                      static_cast<double>(state.iterations());
  state.counters["GFLOP/s"] = benchmark::Counter(flop / 1e9, benchmark::Counter::kIsRate);
}

constexpr std::pair<int64_t, int64_t> kMatrices[] = {  // rows, k
    {960, 576}, {3072, 576}, {576, 1536}, {49152, 576}, {4096, 4096}, {4096, 11008}};

void add_matmul(Machine& machine, const Shape& shape) {
  const std::string name = "matmul/" + std::string(dtype_name(shape.dtype)) + "/" +
                           codec_name(shape.codec) + "/" + std::to_string(shape.rows) + "x" +
                           std::to_string(shape.k) + "/tokens:" + std::to_string(shape.tokens);
  benchmark::RegisterBenchmark(
      name.c_str(),
      [&machine, shape](benchmark::State& state) { run_matmul(state, machine, shape); })
      ->UseRealTime()
      ->Unit(benchmark::kMicrosecond);
}

void add_benchmarks(Machine& machine) {
  for (const DType dtype : {DType::kFloat16, DType::kBFloat16}) {
    for (const int64_t tokens : {1, 2, 4, 8, 32, 512}) {
      for (const auto& [rows, k] : kMatrices) {
        if (tokens == 512 && rows * k > 48'000'000) continue;
        add_matmul(machine, {dtype, rows, k, tokens});
        if (tokens == 512) continue;
        add_matmul(machine, {dtype, rows, k, tokens, CodecId::kE3});
        if (dtype == DType::kBFloat16) add_matmul(machine, {dtype, rows, k, tokens, CodecId::kE4});
      }
    }
  }
  for (const auto& [position, rows] :
       {std::pair<int64_t, int64_t>{63, 1}, {511, 1}, {4095, 1}, {0, 512}, {1536, 512}}) {
    const std::string name =
        "attention/context:" + std::to_string(position + rows) + "/rows:" + std::to_string(rows);
    benchmark::RegisterBenchmark(
        name.c_str(),
        [&machine, position = position, rows = rows](benchmark::State& state) {
          run_attention(state, machine, position, rows);
        })
        ->UseRealTime()
        ->Unit(benchmark::kMicrosecond);
  }
}

/// Takes --threads=N out of the arguments; all processors if it is not there.
int take_threads(std::vector<char*>& arguments) {
  constexpr std::string_view kFlag = "--threads=";
  for (size_t i = 1; i < arguments.size(); ++i) {
    const std::string_view argument = arguments[i];
    int threads = 0;
    if (argument.starts_with(kFlag) &&
        std::from_chars(argument.data() + kFlag.size(), argument.data() + argument.size(), threads)
                .ec == std::errc{}) {
      arguments.erase(arguments.begin() + static_cast<std::ptrdiff_t>(i));
      return threads;
    }
  }
  return available_processors();
}

}  // namespace
}  // namespace headrace::bench

int main(int argc, char** argv) {
  std::vector<char*> arguments(argv, argv + argc);
  headrace::bench::Machine machine(headrace::bench::take_threads(arguments));
  int count = static_cast<int>(arguments.size());
  benchmark::Initialize(&count, arguments.data());
  if (benchmark::ReportUnrecognizedArguments(count, arguments.data())) return 2;
  headrace::bench::add_benchmarks(machine);
  benchmark::AddCustomContext("backend", machine.backend->description());
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
