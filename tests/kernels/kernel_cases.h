#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/thread_pool.h"
#include "codec/row_code.h"
#include "kernels/backend.h"
#include "tensor/dtype.h"
#include "tensor/float16.h"

namespace headrace::testing {

inline constexpr DType kAllDTypes[] = {DType::kFloat32, DType::kFloat16, DType::kBFloat16};

/// The codecs, each with a dtype that it is for.
inline constexpr std::pair<CodecId, DType> kCodecs[] = {{CodecId::kE3, DType::kBFloat16},
                                                        {CodecId::kE4, DType::kBFloat16},
                                                        {CodecId::kE3, DType::kFloat16}};

/// The instruction sets that this machine can run.
inline std::vector<CpuIsa> isas_here() {
  std::vector<CpuIsa> isas;
  for (const CpuIsa isa : {CpuIsa::kPortable, CpuIsa::kAvx2, CpuIsa::kAvx512}) {
    if (isa <= detect_cpu_isa()) isas.push_back(isa);
  }
  return isas;
}

/// A reference backend and a CPU backend with its threads.
struct BackendUnderTest {
  std::unique_ptr<ThreadPool> pool;
  std::unique_ptr<Backend> backend;

  explicit BackendUnderTest(CpuIsa isa, int threads = 2)
      : pool(std::make_unique<ThreadPool>(threads)), backend(make_cpu_backend(*pool, isa)) {}
};

/// Equal bits, or both NaN: which NaN an operation gives is not part of the contract.
inline bool same_bits(float a, float b) {
  return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b) ||
         (std::isnan(a) && std::isnan(b));
}

inline float element(DType dtype, const std::byte* data, size_t index) {
  if (dtype == DType::kFloat32) {
    float value;
    std::memcpy(&value, data + 4 * index, 4);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, data + 2 * index, 2);
  return dtype == DType::kFloat16 ? float16_to_float(bits) : bfloat16_to_float(bits);
}

inline void set_element(DType dtype, std::byte* data, size_t index, float value) {
  if (dtype == DType::kFloat32) {
    std::memcpy(data + 4 * index, &value, 4);
    return;
  }
  const uint16_t bits =
      dtype == DType::kFloat16 ? float_to_float16(value) : float_to_bfloat16(value);
  std::memcpy(data + 2 * index, &bits, 2);
}

/// Fails with the first place where `actual` differs from `expected`.
inline ::testing::AssertionResult equal_bits(std::span<const float> expected,
                                             std::span<const float> actual) {
  if (expected.size() != actual.size()) return ::testing::AssertionFailure() << "sizes differ";
  for (size_t i = 0; i < expected.size(); ++i) {
    if (!same_bits(expected[i], actual[i])) {
      return ::testing::AssertionFailure()
             << "element " << i << " is " << actual[i] << ", not " << expected[i];
    }
  }
  return ::testing::AssertionSuccess();
}

inline ::testing::AssertionResult equal_elements(DType dtype, std::span<const std::byte> expected,
                                                 std::span<const std::byte> actual) {
  std::vector<float> a;
  std::vector<float> b;
  for (size_t i = 0; i < expected.size() / dtype_size(dtype); ++i) {
    a.push_back(element(dtype, expected.data(), i));
    b.push_back(element(dtype, actual.data(), i));
  }
  return equal_bits(a, b);
}

/// What the numbers of a test look like.
enum class Data {
  kPlain,   ///< gaussian
  kWild,    ///< with denormals, both zeros, largest values and sums that cancel
  kBroken,  ///< with infinities and NaN as well
};

class Numbers {
 public:
  explicit Numbers(uint32_t seed, Data data = Data::kPlain) : engine_(seed), data_(data) {}

  float next() {
    const float plain = normal_(engine_);
    if (data_ == Data::kPlain) return plain;
    switch (engine_() % (data_ == Data::kWild ? 40u : 400u)) {
      case 0:
        return 0.0f;
      case 1:
        return -0.0f;
      case 2:
        return plain * 0x1p-130f;  // a denormal float, or one that a product makes denormal
      case 3:
        return plain * 0x1p-18f;  // a denormal half
      case 4:
        return plain * 0x1p-100f;
      case 5:
        return plain * 1000.0f;
      case 6:
        return data_ == Data::kBroken ? INFINITY : 0x1p-149f;
      case 7:
        return data_ == Data::kBroken ? -INFINITY : -0x1p-24f;
      case 8:
        return data_ == Data::kBroken ? NAN : 65504.0f;
      default:
        return plain;
    }
  }
  std::vector<float> floats(size_t count) {
    std::vector<float> values(count);
    for (float& value : values) value = next();
    return values;
  }
  std::vector<std::byte> elements(DType dtype, size_t count) {
    std::vector<std::byte> bytes(count * dtype_size(dtype));
    for (size_t i = 0; i < count; ++i) set_element(dtype, bytes.data(), i, next());
    return bytes;
  }

 private:
  std::mt19937 engine_;
  std::normal_distribution<float> normal_;
  Data data_;
};

/// Hands out leases made beforehand and counts those given back.
class ListFeed : public WeightFeed, private LeaseOwner {
 public:
  explicit ListFeed(std::vector<std::vector<WeightRun>> leases) : leases_(std::move(leases)) {}

  bool can_hold_rest() const override { return can_be_held; }
  bool next(Lease& lease) override {
    EXPECT_TRUE(can_be_held || released == next_)
        << "a lease was held while the next one was asked for";
    if (next_ == leases_.size()) return false;
    lease = Lease(this, next_, leases_[next_]);
    ++next_;
    return true;
  }

  bool can_be_held = false;  // all leases at once
  size_t released = 0;

 private:
  void release(uint64_t ticket) override {
    EXPECT_EQ(ticket, released);
    ++released;
  }

  std::vector<std::vector<WeightRun>> leases_;
  size_t next_ = 0;
};

/// A matrix as an engine stores it: raw rows padded to 16 bytes, or coded ones; 64 bytes after the
/// last; the padding of raw rows holds bits that are NaN in every dtype.
struct StoredMatrix {
  StoredMatrix(DType dtype, int64_t rows, int64_t k, Numbers& numbers,
               CodecId codec = CodecId::kRaw)
      : row_count(rows),
        codec(codec),
        stride((static_cast<size_t>(k) * dtype_size(dtype) + 15) / 16 * 16) {
    const auto count = static_cast<size_t>(rows);
    std::vector<std::vector<std::byte>> raw;
    for (size_t r = 0; r < count; ++r) {
      raw.push_back(numbers.elements(dtype, static_cast<size_t>(k)));
    }
    if (codec != CodecId::kRaw) {
      encode(dtype, k, raw);
      return;
    }
    bytes.assign(count * stride + 64, std::byte{0xff});
    for (size_t r = 0; r < count; ++r) {
      std::memcpy(bytes.data() + r * stride, raw[r].data(), raw[r].size());
    }
  }

  WeightRun run(uint32_t matrix, int64_t begin, int64_t count) const {
    return {.data = bytes.data() + static_cast<size_t>(begin) * stride,
            .matrix = matrix,
            .row_begin = begin,
            .rows = count,
            .row_stride_bytes = stride,
            .codec = codec};
  }
  std::vector<std::vector<WeightRun>> whole() const { return {{run(0, 0, row_count)}}; }

  int64_t row_count;
  CodecId codec;
  size_t stride;
  std::vector<std::byte> bytes;

 private:
  void encode(DType dtype, int64_t k, const std::vector<std::vector<std::byte>>& raw) {
    std::vector<uint16_t> elements(raw.size() * static_cast<size_t>(k));
    for (size_t r = 0; r < raw.size(); ++r) {
      std::memcpy(elements.data() + r * static_cast<size_t>(k), raw[r].data(), raw[r].size());
    }
    CodedRows coded = encode_rows(codec, dtype, k, elements);
    stride = coded.stride_bytes;
    bytes = std::move(coded.bytes);
    bytes.resize(bytes.size() + 64, std::byte{0xff});
  }
};

}  // namespace headrace::testing
