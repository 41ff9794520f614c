#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kernels/backend.h"

namespace headrace::testing {

/// Runs the ops of a backend with memory of its own on host memory: copies operands there and
/// results back, so that tests written for host memory serve every backend. A rotation waits for
/// the attention that follows it, so that the device gets both at once, as in a pass.
class MirroredBackend : public Backend {
 public:
  explicit MirroredBackend(std::unique_ptr<Backend> device) : device_(std::move(device)) {}

  std::string description() const override { return device_->description(); }
  Buffer allocate(size_t size_bytes, const char* purpose) override {
    return allocate_host(size_bytes, purpose);
  }
  void upload(std::byte* to, std::span<const std::byte> from) override {
    std::memcpy(to, from.data(), from.size());
  }
  void download(std::span<std::byte> to, const std::byte* from) override {
    std::memcpy(to.data(), from, to.size());
  }
  void synchronize() override { device_->synchronize(); }
  std::string compute_capability() const override { return device_->compute_capability(); }
  size_t reserve(const PassLimits& limits) override { return device_->reserve(limits); }
  void begin_pass(std::span<const SequenceRows> sequences) override {
    device_->begin_pass(sequences);
  }

  void widen(DType dtype, const std::byte* rows, int64_t tokens, int64_t width,
             float* out) override;
  void widen_places(DType dtype, const std::byte* rows, std::span<const int32_t> places,
                    int64_t width, float* out) override;
  void rms_norm(const float* x, const float* weight, float epsilon, int64_t tokens, int64_t width,
                DType out_dtype, std::byte* out) override;
  void matmul(const MatmulArgs& args, WeightFeed& weights) override;
  void gated_matmul(const MatmulArgs& args, WeightFeed& weights, std::byte* out) override;
  void rope_and_store(const RopeStoreArgs& args) override;
  void attention(const AttentionArgs& args) override;
  void silu_multiply(const float* a, const float* b, int64_t tokens, int64_t width, DType out_dtype,
                     std::byte* out) override;
  bool best_tokens(const float* logits, int64_t vocab, const BestTokens& best) override;

 private:
  /// Calls product(args, weights) with both in device memory.
  template <typename Product>
  void multiply(const MatmulArgs& args, WeightFeed& weights, Product product);
  /// A copy of host bytes in device memory, whose buffer may be larger.
  struct Mirror {
    Buffer buffer;
    size_t size_bytes = 0;

    std::byte* data() const { return buffer.data(); }
    float* floats() const { return buffer.floats(); }
  };
  Mirror mirror(const void* data, size_t size_bytes);
  template <typename T>
  void fetch(T* to, const Mirror& from) {
    device_->download({reinterpret_cast<std::byte*>(to), from.size_bytes}, from.data());
  }

  std::unique_ptr<Backend> device_;
  std::optional<RopeStoreArgs> rope_;  // waits
};

}  // namespace headrace::testing
