#pragma once

#include <cstring>
#include <memory>
#include <span>
#include <string>

#include "base/error.h"
#include "kernels/backend.h"

namespace headrace::testing {

/// A backend that owns memory and computes nothing: for tests of what feeds a backend.
class HostBackend : public Backend {
 public:
  std::string description() const override { return "host memory"; }
  Buffer allocate(size_t size_bytes, const char* purpose) override {
    allocated_bytes += size_bytes;
    return allocate_host(size_bytes, purpose);
  }
  void upload(std::byte* to, std::span<const std::byte> from) override {
    std::memcpy(to, from.data(), from.size());
  }
  void download(std::span<std::byte> to, const std::byte* from) override {
    std::memcpy(to.data(), from, to.size());
  }
  void synchronize() override {}
  void widen(DType, const std::byte*, int64_t, int64_t, float*) override { refuse(); }
  void widen_places(DType, const std::byte*, std::span<const int32_t>, int64_t, float*) override {
    refuse();
  }
  void rms_norm(const float*, const float*, float, int64_t, int64_t, DType, std::byte*) override {
    refuse();
  }
  void matmul(const MatmulArgs&, WeightFeed&) override { refuse(); }
  void rope_and_store(const RopeStoreArgs&) override { refuse(); }
  void attention(const AttentionArgs&) override { refuse(); }
  void silu_multiply(const float*, const float*, int64_t, int64_t, DType, std::byte*) override {
    refuse();
  }
  size_t reserve(const PassLimits&) override { return 0; }

  size_t allocated_bytes = 0;

 private:
  [[noreturn]] static void refuse() {
    fail(ErrorCode::kInternal, "[test] this backend has no ops");
  }
};

/// Copies at once.
class HostCopyQueue : public CopyQueue {
 public:
  void fill(int, std::byte* to, std::span<const std::byte> from) override {
    std::memcpy(to, from.data(), from.size());
  }
  void await(int) override {}
  void free(int) override {}
  void wait(int) override {}
  void synchronize() override {}
};

/// Looks like a device with memory of its own, which is the host's.
class DeviceLikeBackend : public HostBackend {
 public:
  bool has_own_memory() const override { return true; }
  std::unique_ptr<CopyQueue> make_copy_queue(int) override {
    return std::make_unique<HostCopyQueue>();
  }
};

}  // namespace headrace::testing
