// Products by coded rows beside raw ones and a bare read of device memory: coded_bench [ROUNDS]
// 4 GB of gaussian weights a codec in matrices of a 7B model, and as many in long ones, where the
// beginning and the end of a launch are nothing; kernels alone, one launch a matrix. Rates count
// the bytes that raw weights would have, medians of rounds in which all cases take turns.

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "codec/row_code.h"
#include "kernels/cuda/launchers.h"
#include "read_memory.h"
#include "stream_support.h"
#include "tensor/float16.h"

namespace headrace::bench {
namespace {

constexpr double kRawBytes = 4e9;  // of a codec's weights: of a model, and of long matrices
constexpr float kDeviation = 0.02f;
constexpr int64_t kMostTokens = 8;
constexpr int64_t kDistinctRows = 512;  // of a shape; matrices repeat them

struct Shape {
  int64_t rows;
  int64_t k;
};
constexpr std::array kShapes = {Shape{4096, 4096}, Shape{11008, 4096}, Shape{4096, 11008},
                                Shape{131072, 4096}};
constexpr size_t kModelShapes = 3;  // the first ones

struct Coding {
  CodecId codec;
  DType dtype;
};
constexpr std::array kCodings = {
    Coding{CodecId::kRaw, DType::kBFloat16}, Coding{CodecId::kE3, DType::kBFloat16},
    Coding{CodecId::kE4, DType::kBFloat16}, Coding{CodecId::kRaw, DType::kFloat16},
    Coding{CodecId::kE3, DType::kFloat16}};

void check(cudaError_t status, const char* action) {
  if (status == cudaSuccess) return;
  throw std::runtime_error(std::string(action) + ": " + cudaGetErrorString(status));
}

/// Memory of the device, until the program ends.
std::byte* allocate(size_t bytes) {
  void* memory = nullptr;
  check(cudaMalloc(&memory, bytes), "allocating");
  return static_cast<std::byte*>(memory);
}

uint16_t to_bits(DType dtype, float value) {
  return dtype == DType::kFloat16 ? float_to_float16(value) : float_to_bfloat16(value);
}

std::vector<uint16_t> gaussian(DType dtype, int64_t count, float deviation, uint32_t seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(0.0f, deviation);
  std::vector<uint16_t> bits(static_cast<size_t>(count));
  for (uint16_t& b : bits) b = to_bits(dtype, normal(engine));
  return bits;
}

/// Matrices of one shape and coding.
struct Matrices {
  Shape shape;
  Coding coding;
  size_t row_stride = 0;
  int64_t count = 0;
  std::byte* weights = nullptr;

  size_t matrix_bytes() const { return static_cast<size_t>(shape.rows) * row_stride; }
  double raw_bytes() const { return static_cast<double>(count * shape.rows * shape.k) * 2; }
};

/// The shape's distinct rows, as the coding stores them.
std::vector<std::byte> stored_rows(const Shape& shape, const Coding& coding, size_t& row_stride) {
  const auto k = static_cast<size_t>(shape.k);
  const auto bits = gaussian(coding.dtype, kDistinctRows * shape.k, kDeviation,
                             static_cast<uint32_t>(shape.k + shape.rows));
  if (coding.codec == CodecId::kRaw) {
    row_stride = k * sizeof(uint16_t);
    const auto bytes = std::as_bytes(std::span(bits));
    return {bytes.begin(), bytes.end()};
  }
  CodedRows rows = encode_rows(coding.codec, coding.dtype, shape.k, bits);
  row_stride = rows.stride_bytes;
  return std::move(rows.bytes);
}

Matrices make_matrices(const Shape& shape, const Coding& coding) {
  Matrices made = {.shape = shape, .coding = coding};
  const std::vector<std::byte> rows = stored_rows(shape, coding, made.row_stride);
  const auto raw_bytes = [](const Shape& s) { return static_cast<double>(s.rows * s.k) * 2; };
  double set_bytes = 0;
  for (size_t s = 0; s < kModelShapes; ++s) set_bytes += raw_bytes(kShapes[s]);
  const bool is_long = shape.rows == kShapes[kModelShapes].rows;
  made.count = static_cast<int64_t>(kRawBytes / (is_long ? raw_bytes(shape) : set_bytes) + 0.5);
  const size_t bytes = static_cast<size_t>(made.count) * made.matrix_bytes();
  made.weights = allocate(bytes + 64);
  for (size_t at = 0; at < bytes; at += rows.size()) {
    check(cudaMemcpy(made.weights + at, rows.data(), std::min(rows.size(), bytes - at),
                     cudaMemcpyHostToDevice),
          "uploading");
  }
  return made;
}

class Device {
 public:
  Device() {
    check(cudaDeviceSetCacheConfig(cudaFuncCachePreferShared), "setting up the device");
    check(cudaStreamCreateWithFlags(&queue_.stream, cudaStreamNonBlocking), "creating a stream");
    check(cudaEventCreate(&begin_), "creating an event");
    check(cudaEventCreate(&end_), "creating an event");
    check(cudaGetDeviceProperties(&properties_, 0), "asking for the device's properties");
    queue_.multiprocessors = properties_.multiProcessorCount;
    queue_.shared_bytes = static_cast<int>(properties_.sharedMemPerBlockOptin);
    queue_.can_overlap = properties_.major >= 9;
    for (const DType dtype : {DType::kBFloat16, DType::kFloat16}) {
      std::byte*& x = x_[dtype == DType::kFloat16];
      const auto bits = gaussian(dtype, kMostTokens * kMostK, 1.0f, 7);
      x = allocate(bits.size() * 2);
      check(cudaMemcpy(x, bits.data(), bits.size() * 2, cudaMemcpyHostToDevice), "uploading");
    }
    out_ = reinterpret_cast<float*>(allocate(kMostTokens * kMostRows * sizeof(float)));
    decoded_ = allocate(kDecodedBytes + 64);
  }

  const cudaDeviceProp& properties() const { return properties_; }

  /// GB/s of what `enqueue` does to so many bytes.
  template <typename Enqueue>
  double measure(double bytes, const Enqueue& enqueue) {
    check(cudaEventRecord(begin_, queue_.interrupted()), "timing");
    enqueue();
    check(cudaEventRecord(end_, queue_.interrupted()), "timing");
    check(cudaEventSynchronize(end_), "running kernels");
    check(cudaGetLastError(), "launching");
    float ms = 0;
    check(cudaEventElapsedTime(&ms, begin_, end_), "timing");
    return bytes / static_cast<double>(ms) / 1e6;
  }

  double read_gbps(const Matrices& raw) {
    const auto bytes = static_cast<size_t>(raw.raw_bytes());
    return measure(raw.raw_bytes(), [&] {
      read_memory(raw.weights, bytes, reinterpret_cast<unsigned*>(out_), queue_.multiprocessors,
                  queue_.stream);
    });
  }

  double product_gbps(const Matrices& matrices, int64_t tokens) {
    return measure(matrices.raw_bytes(), [&] {
      for (int64_t i = 0; i < matrices.count; ++i) {
        const cuda::MatmulRun run = {
            .weights = matrices.weights + static_cast<size_t>(i) * matrices.matrix_bytes(),
            .row_stride_bytes = matrices.row_stride,
            .out = out_,
            .out_stride = matrices.shape.rows,
            .rows = static_cast<int32_t>(matrices.shape.rows)};
        const cuda::MatmulRuns matmul = {
            .dtype = matrices.coding.dtype,
            .codec = matrices.coding.codec,
            .runs = &run,
            .run_count = 1,
            .x = x_[matrices.coding.dtype == DType::kFloat16],
            .x_stride_bytes = static_cast<size_t>(matrices.shape.k) * 2,
            .tokens = tokens,
            .k = matrices.shape.k};
        if (matrices.coding.codec == CodecId::kRaw) {
          cuda::canonical_matmul(matmul, nullptr, queue_);
        } else if (cuda::canonical_coded_fits(matmul, queue_)) {
          cuda::canonical_matmul_coded(matmul, nullptr, queue_);
        } else {
          throw std::runtime_error("this device has no kernel for coded products");
        }
      }
    });
  }

  double decode_gbps(const Matrices& matrices) {
    const auto row_bytes = static_cast<size_t>(matrices.shape.k) * 2;
    const auto most = static_cast<int64_t>(kDecodedBytes / row_bytes);
    return measure(matrices.raw_bytes(), [&] {
      const int64_t rows = matrices.count * matrices.shape.rows;
      for (int64_t begin = 0; begin < rows; begin += most) {
        cuda::decode_rows(
            {.codec = matrices.coding.codec,
             .dtype = matrices.coding.dtype,
             .k = matrices.shape.k,
             .rows = matrices.weights + static_cast<size_t>(begin) * matrices.row_stride,
             .row_stride_bytes = matrices.row_stride,
             .count = std::min(most, rows - begin),
             .out = decoded_},
            queue_);
      }
    });
  }

  /// Of the last product.
  std::vector<float> result(const Shape& shape, int64_t tokens) const {
    std::vector<float> out(static_cast<size_t>(shape.rows * tokens));
    check(cudaMemcpy(out.data(), out_, out.size() * sizeof(float), cudaMemcpyDeviceToHost),
          "downloading");
    return out;
  }

 private:
  static constexpr int64_t kMostK = 11008;
  static constexpr int64_t kMostRows = 131072;
  static constexpr size_t kDecodedBytes = size_t{64} << 20;

  cuda::Queue queue_;
  cudaDeviceProp properties_ = {};
  cudaEvent_t begin_ = nullptr;
  cudaEvent_t end_ = nullptr;
  std::byte* x_[2] = {};  // bfloat16, float16
  float* out_ = nullptr;
  std::byte* decoded_ = nullptr;
};

/// A line of the table: rates of each shape, by round.
struct Line {
  size_t coding = 0;
  int64_t tokens = 0;  // 0: decoded into memory
  std::array<std::vector<double>, kShapes.size()> gbps = {};
  std::vector<double> model = {};
};

using Weights = std::array<std::array<Matrices, kShapes.size()>, kCodings.size()>;

void measure_line(Device& device, const Weights& weights, Line& line) {
  double bytes = 0;
  double seconds = 0;
  for (size_t s = 0; s < kShapes.size(); ++s) {
    const Matrices& matrices = weights[line.coding][s];
    const double gbps = line.tokens == 0 ? device.decode_gbps(matrices)
                                         : device.product_gbps(matrices, line.tokens);
    line.gbps[s].push_back(gbps);
    if (s >= kModelShapes) continue;
    bytes += matrices.raw_bytes();
    seconds += matrices.raw_bytes() / gbps;
  }
  line.model.push_back(bytes / seconds);
}

/// Whether coded products have the bits of raw ones.
bool equal_bits(Device& device, const Weights& weights) {
  bool equal = true;
  std::array<std::vector<float>, kShapes.size()> raw;
  for (size_t c = 0; c < kCodings.size(); ++c) {
    for (size_t s = 0; s < kShapes.size(); ++s) {
      device.product_gbps(weights[c][s], kMostTokens);
      const auto result = device.result(kShapes[s], kMostTokens);
      if (kCodings[c].codec == CodecId::kRaw) raw[s] = result;
      equal =
          equal && std::memcmp(result.data(), raw[s].data(), result.size() * sizeof(float)) == 0;
    }
  }
  return equal;
}

int run(int argc, char** argv) {
  const int rounds = std::max(1, argc > 1 ? std::atoi(argv[1]) : 15);
  Device device;
  Weights weights;
  for (size_t c = 0; c < kCodings.size(); ++c) {
    for (size_t s = 0; s < kShapes.size(); ++s) {
      weights[c][s] = make_matrices(kShapes[s], kCodings[c]);
    }
  }
  std::vector<Line> lines;
  for (size_t c = 0; c < kCodings.size(); ++c) {
    for (const int64_t tokens : {0, 1, 2, 4, 8}) {
      if (tokens > 0 || kCodings[c].codec != CodecId::kRaw) {
        lines.push_back({.coding = c, .tokens = tokens});
      }
    }
  }
  check(cudaDeviceSynchronize(), "uploading");
  const bool equal = equal_bits(device, weights);
  std::vector<double> read;
  for (int round = 0; round < rounds; ++round) {
    read.push_back(device.read_gbps(weights[0][1]));
    for (Line& line : lines) measure_line(device, weights, line);
    read.push_back(device.read_gbps(weights[0][2]));
  }
  const double limit = median(read);
  std::printf(
      "%s, %d multiprocessors; HBM read %.0f GB/s; %d rounds; coded products have %s bits\n",
      device.properties().name, device.properties().multiProcessorCount, limit, rounds,
      equal ? "the raw ones'" : "OTHER");
  std::printf(
      "%s, %d multiprocessors; HBM read %.0f GB/s; %d rounds; coded products have %s bits\n",
      device.properties().name, device.properties().multiProcessorCount, limit, rounds,
      equal ? "the raw ones'" : "OTHER");
  std::printf("raw-equivalent GB/s\n%-16s %6s %6s %9s %10s %10s %6s %7s %11s %7s\n", "weights",
              "size", "tokens", "4096x4096", "11008x4096", "4096x11008", "model", "of read",
              "131072x4096", "of read");
  for (const Line& line : lines) {
    double stored = 0;
    double raw = 0;
    for (const Matrices& m : weights[line.coding]) {
      stored += static_cast<double>(m.count) * static_cast<double>(m.matrix_bytes());
      raw += m.raw_bytes();
    }
    const Coding& coding = kCodings[line.coding];
    const std::string name = std::string(dtype_name(coding.dtype)) + " " + codec_name(coding.codec);
    const std::string tokens = line.tokens == 0 ? "decode" : std::to_string(line.tokens);
    const double model = median(line.model);
    const double in_long = median(line.gbps[kModelShapes]);
    std::printf("%-16s %6.3f %6s %9.0f %10.0f %10.0f %6.0f %7.3f %11.0f %7.3f\n", name.c_str(),
                stored / raw, tokens.c_str(), median(line.gbps[0]), median(line.gbps[1]),
                median(line.gbps[2]), model, model / limit, in_long, in_long / limit);
  }
  return equal ? 0 : 1;
}

}  // namespace
}  // namespace headrace::bench

int main(int argc, char** argv) {
  try {
    return headrace::bench::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "coded_bench: %s\n", error.what());
    return 1;
  }
}
