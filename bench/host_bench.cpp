// Products of host threads, as they are beside a device: host_bench [THREADS [ROUNDS [link]]]
// A pass goes over 4 GiB of weights in host memory, product by product; this program plays the
// device, and gives x as soon as the product before it is done. Raw-equivalent GB/s of the median
// pass, and the same while threads were at work, without what meeting costs. With "link" the GPU's
// link is busy meanwhile: what both carry together is what bounds a shared pass.

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/thread_pool.h"
#include "codec/row_code.h"
#include "device/buffer.h"
#include "kernels/backend.h"
#include "kernels/host_workers.h"
#include "profile/busy_link.h"
#include "stream_support.h"
#include "tensor/float16.h"

namespace headrace {
namespace {

constexpr uint64_t kBytes = uint64_t{4} << 30;
constexpr int64_t kMostK = 11008;

struct Kind {
  CodecId codec;
  DType dtype;
};

/// Rows of 16 different gaussian ones, over all of `memory`; returns their stride.
uint64_t fill(const Kind& kind, int64_t k, Buffer& memory, ThreadPool& pool) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 0.02f);
  std::vector<uint16_t> elements(16 * static_cast<size_t>(k));
  for (uint16_t& bits : elements) {
    bits = kind.dtype == DType::kBFloat16 ? float_to_bfloat16(normal(random))
                                          : float_to_float16(normal(random));
  }
  CodedRows rows{.stride_bytes = static_cast<uint64_t>(k) * 2};
  if (kind.codec == CodecId::kRaw) {
    const auto bytes = std::as_bytes(std::span(elements));
    rows.bytes.assign(bytes.begin(), bytes.end());
  } else {
    rows = encode_rows(kind.codec, kind.dtype, k, elements);
  }
  const std::vector<std::byte>& coded = rows.bytes;
  const auto count = static_cast<int64_t>((memory.size_bytes() - 64) / coded.size());
  pool.parallel_for(count, 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      std::memcpy(memory.data() + static_cast<size_t>(i) * coded.size(), coded.data(),
                  coded.size());
    }
  });
  return rows.stride_bytes;
}

/// `device`: whose link is kept busy; null: none.
void run_kind(const Kind& kind, int64_t k, int threads, int rounds, Backend* device, Buffer& memory,
              bench::Surroundings& surroundings) {
  const uint64_t stride = fill(kind, k, memory, surroundings.context.pool);
  const auto all_rows = static_cast<int64_t>((memory.size_bytes() - 64) / stride);
  const int64_t group_rows = (int64_t{64} << 20) / (2 * k);  // 64 MiB of raw weights
  const std::vector<std::byte> x(static_cast<size_t>(kMostHostTokens * kMostK * 2),
                                 std::byte{0x3c});
  std::vector<HostWord> words(x.size() / 2);
  std::vector<HostWord> out(static_cast<size_t>(kMostHostTokens * group_rows));
  for (const int64_t tokens : {1, 2, 4, 8}) {
    HostMeetings meetings;
    const auto workers = make_host_workers(threads, kMostK, meetings);
    std::optional<BusyLink> link;
    if (device != nullptr) link.emplace(*device, surroundings.context.clock);
    std::vector<double> rates;
    std::vector<double> busy_rates;
    for (int round = 0; round < rounds; ++round) {
      const HostWork before = workers->work();
      const int64_t begin_ns = surroundings.context.clock.now_ns();
      double raw_bytes = 0;
      for (int64_t row = 0; row + group_rows <= all_rows; row += group_rows) {
        const WeightRun run = {.data = memory.data() + static_cast<uint64_t>(row) * stride,
                               .rows = group_rows,
                               .row_stride_bytes = stride,
                               .codec = kind.codec};
        const HostProduct product = {.dtype = kind.dtype,
                                     .tokens = tokens,
                                     .k = k,
                                     .x = words.data(),
                                     .runs = {&run, 1},
                                     .out = out.data()};
        const uint32_t number = workers->enqueue(product);
        give_x(product, number, x.data());
        if (!link) workers->lend_a_hand([] { return false; });  // its thread has the processor
        while (std::atomic_ref(meetings.done).load(std::memory_order_acquire) != number) {
          if (link) std::this_thread::yield();
        }
        raw_bytes += static_cast<double>(group_rows * k * 2);
      }
      const auto elapsed = static_cast<double>(surroundings.context.clock.now_ns() - begin_ns);
      rates.push_back(raw_bytes / elapsed);
      busy_rates.push_back(raw_bytes /
                           static_cast<double>(workers->work().busy_ns - before.busy_ns));
    }
    const double busy = bench::median(busy_rates);
    std::printf("%-9s %-4s k %5lld  tokens %lld  %7.1f GB/s, busy %7.1f",
                std::string(dtype_name(kind.dtype)).c_str(), codec_name(kind.codec),
                static_cast<long long>(k), static_cast<long long>(tokens), bench::median(rates),
                busy);
    if (link) {
      const double raw = 2 * static_cast<double>(k) / static_cast<double>(stride);
      std::printf(", link %5.1f (as stored), together %7.1f", link->gbps(),
                  busy + link->gbps() * raw);
    }
    std::printf("\n");
  }
}

int run(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : available_processors() - 1;
  const int rounds = std::max(1, argc > 2 ? std::atoi(argv[2]) : 3);
  bench::Surroundings surroundings;
  const bool link = argc > 3 && std::string_view(argv[3]) == "link";
  const std::unique_ptr<Backend> device = link ? make_cuda_backend(0) : nullptr;
  Buffer memory = allocate_host(kBytes, "weights");
  std::printf("%d threads%s\n", threads, link ? " beside a busy link" : " and this one");
  for (const Kind& kind :
       {Kind{CodecId::kRaw, DType::kFloat16}, Kind{CodecId::kRaw, DType::kBFloat16},
        Kind{CodecId::kE3, DType::kBFloat16}, Kind{CodecId::kE4, DType::kBFloat16},
        Kind{CodecId::kE3, DType::kFloat16}}) {
    for (const int64_t k : {4096, 11008}) {
      run_kind(kind, k, threads, rounds, device.get(), memory, surroundings);
    }
  }
  return 0;
}

}  // namespace
}  // namespace headrace

int main(int argc, char** argv) {
  try {
    return headrace::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "host_bench: %s\n", error.what());
    return 1;
  }
}
