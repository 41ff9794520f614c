#include "machine_limits.h"

#include <atomic>
#include <chrono>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace headrace::bench {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

constexpr size_t kPrefetchBytes = 8192;

/// Reads whole cache lines; the result keeps the compiler from leaving the reads out.
uint64_t read_lines(std::span<const std::byte> memory) {
  uint64_t seen = 0;
  const auto* words = reinterpret_cast<const uint64_t*>(memory.data());
  for (size_t i = 0; i + 8 <= memory.size() / 8; i += 8) {
    __builtin_prefetch(reinterpret_cast<const std::byte*>(words + i) + kPrefetchBytes);
    seen |= words[i] | words[i + 1] | words[i + 2] | words[i + 3] | words[i + 4] | words[i + 5] |
            words[i + 6] | words[i + 7];
  }
  return seen;
}

constexpr int64_t kSteps = 4'000'000;

#if defined(__x86_64__)
/// 12 independent chains: more than latency x throughput of any processor with two FMA units.
constexpr int kChains = 12;

__attribute__((target("avx512f"))) float multiply_add_512() {
  __m512 chain[kChains];
  for (__m512& c : chain) c = _mm512_set1_ps(1.0f);
  __m512 factor = _mm512_set1_ps(0.999999f);
  for (int64_t i = 0; i < kSteps; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) chain[c] = _mm512_fmadd_ps(chain[c], factor, factor);
    asm volatile("" : "+v"(factor));  // or the loop would be worked out at compile time
  }
  for (int c = 1; c < kChains; ++c) chain[0] = _mm512_add_ps(chain[0], chain[c]);
  return _mm512_cvtss_f32(chain[0]);
}

__attribute__((target("avx2,fma"))) float multiply_add_256() {
  __m256 chain[kChains];
  for (__m256& c : chain) c = _mm256_set1_ps(1.0f);
  __m256 factor = _mm256_set1_ps(0.999999f);
  for (int64_t i = 0; i < kSteps; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) chain[c] = _mm256_fmadd_ps(chain[c], factor, factor);
    asm volatile("" : "+x"(factor));
  }
  for (int c = 1; c < kChains; ++c) chain[0] = _mm256_add_ps(chain[0], chain[c]);
  return _mm256_cvtss_f32(chain[0]);
}
#endif

/// Runs the widest loop there is; returns its flop (0: none).
double multiply_add(float& sink) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) {
    sink = multiply_add_512();
    return 2.0 * 16 * kChains * kSteps;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    sink = multiply_add_256();
    return 2.0 * 8 * kChains * kSteps;
  }
#endif
  sink = 0;
  return 0;
}

}  // namespace

double measure_read_gbps(ThreadPool& pool, std::span<const std::byte> memory) {
  constexpr size_t kPiece = size_t{1} << 20;
  std::atomic<size_t> next{0};
  std::atomic<uint64_t> sink{0};
  const auto start = std::chrono::steady_clock::now();
  pool.run([&](int) {
    uint64_t seen = 0;
    for (size_t at = next.fetch_add(kPiece); at < memory.size(); at = next.fetch_add(kPiece)) {
      seen |= read_lines(memory.subspan(at, std::min(kPiece, memory.size() - at)));
    }
    sink.fetch_or(seen);
  });
  return static_cast<double>(memory.size()) / seconds_since(start) / 1e9;
}

double measure_fma_gflops(ThreadPool& pool) {
  std::atomic<float> sink{0};
  std::atomic<double> flop{0};
  const auto start = std::chrono::steady_clock::now();
  pool.run([&](int) {
    float result;
    flop.fetch_add(multiply_add(result));
    sink.store(result);
  });
  return flop.load() / seconds_since(start) / 1e9;
}

}  // namespace headrace::bench
