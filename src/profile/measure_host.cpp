#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/thread_pool.h"
#include "codec/row_code.h"
#include "kernels/host_workers.h"
#include "profile/busy_link.h"
#include "profile/measure.h"
#include "tensor/float16.h"

namespace headrace {
namespace {

constexpr int64_t kK = 4096;
constexpr uint64_t kWeightBytes = uint64_t{1} << 30;    // more than caches hold
constexpr uint64_t kProductBytes = uint64_t{64} << 20;  // of one meeting
constexpr int64_t kTokens[] = {1, 2, 4, 8};
constexpr int kMostRounds = 3;
constexpr int64_t kRoundsNs = 30'000'000;  // for more than one round

/// Elements that look like a model's: a triangular distribution around 0.
std::vector<uint16_t> made_row(DType dtype, uint32_t seed) {
  std::vector<uint16_t> row(kK);
  uint32_t state = seed * 0x9e3779b9u + 1;
  const auto next = [&] {
    state = state * 1664525u + 1013904223u;
    return static_cast<float>(state >> 8) * 0x1p-24f;
  };
  for (uint16_t& bits : row) {
    const float value = (next() + next() - 1.0f) * 0.05f;
    bits = dtype == DType::kBFloat16 ? float_to_bfloat16(value) : float_to_float16(value);
  }
  return row;
}

/// A few rows as the codec stores them.
CodedRows stored_rows(CodecId codec, DType dtype) {
  constexpr uint32_t kRows = 16;
  if (codec == CodecId::kRaw) {
    const uint64_t stride = kK * dtype_size(dtype);
    CodedRows rows{.stride_bytes = stride, .bytes = std::vector<std::byte>(kRows * stride)};
    for (uint32_t r = 0; r < kRows; ++r) {
      for (uint64_t at = 0; at < stride; at += kK * 2) {
        const std::vector<uint16_t> row = made_row(DType::kFloat16, r);
        std::memcpy(rows.bytes.data() + r * stride + at, row.data(), kK * 2);
      }
    }
    return rows;
  }
  std::vector<uint16_t> elements;
  for (uint32_t r = 0; r < kRows; ++r) {
    const std::vector<uint16_t> row = made_row(dtype, r);
    elements.insert(elements.end(), row.begin(), row.end());
  }
  return encode_rows(codec, dtype, kK, elements);
}

/// 1e9 raw bytes/s of products over all of `memory`, which holds rows `stride` apart. Nobody comes
/// between two products, and the thread that waits here leaves its processor to others.
double measure_rate(HostWorkers& workers, HostMeetings& meetings, const HostProduct& form,
                    const WeightRun& rows, const Clock& clock) {
  const uint64_t raw_row = kK * dtype_size(form.dtype);
  const auto product_rows = static_cast<int64_t>(kProductBytes / raw_row);
  std::vector<HostWord> out(static_cast<size_t>(form.tokens * product_rows));
  const std::vector<std::byte> x(static_cast<size_t>(form.tokens * kK) * dtype_size(form.dtype));
  std::vector<WeightRun> runs;
  for (int64_t r = 0; r + product_rows <= rows.rows; r += product_rows) {
    runs.push_back(rows);
    runs.back().data += static_cast<uint64_t>(r) * rows.row_stride_bytes;
    runs.back().rows = product_rows;
  }
  const auto run_rounds = [&](int rounds) {
    const size_t count = static_cast<size_t>(rounds) * runs.size();
    const size_t x_words = static_cast<size_t>(form.tokens) * words_of_x(kK, form.dtype);
    std::vector<HostWord> words(count * x_words);
    uint32_t last = 0;
    for (size_t i = 0; i < count; ++i) {
      HostProduct product = form;
      product.x = words.data() + i * x_words;
      product.runs = std::span(runs).subspan(i % runs.size(), 1);
      product.out = out.data();
      last = workers.enqueue(product);
      give_x(product, last, x.data());
    }
    while (std::atomic_ref(meetings.done).load(std::memory_order_acquire) != last) {
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
    workers.abandon();  // words and weights go
  };
  const int64_t first_ns = clock.now_ns();
  run_rounds(1);
  const int64_t begin_ns = clock.now_ns();
  const int rounds = begin_ns - first_ns < kRoundsNs ? kMostRounds : 1;
  run_rounds(rounds);
  const auto elapsed_ns = static_cast<double>(std::max<int64_t>(clock.now_ns() - begin_ns, 1));
  const uint64_t raw_rows = static_cast<uint64_t>(rounds * product_rows) * runs.size();
  return static_cast<double>(raw_rows * raw_row) / elapsed_ns;
}

}  // namespace

void measure_host(Backend& backend, DType dtype, Context& context, MachineProfile& profile) {
  const int threads = available_processors() - 1;
  if (threads < 1 || available_memory_bytes() < 2 * kWeightBytes) return;
  const Buffer memory = allocate_host(kWeightBytes, "measurement of host products");
  HostMeetings meetings;
  const auto workers = make_host_workers(threads, kK, meetings);
  for (const CodecId codec : {CodecId::kRaw, CodecId::kE3, CodecId::kE4}) {
    if (!codec_fits(codec, dtype)) continue;
    const CodedRows rows = stored_rows(codec, dtype);
    const auto copies = static_cast<int64_t>((kWeightBytes - 64) / rows.bytes.size());
    context.pool.parallel_for(copies, 16, [&](int64_t begin, int64_t end) {
      for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
        std::memcpy(memory.data() + i * rows.bytes.size(), rows.bytes.data(), rows.bytes.size());
      }
    });
    const WeightRun run = {
        .data = memory.data(),
        .rows = copies * static_cast<int64_t>(rows.bytes.size() / rows.stride_bytes),
        .row_stride_bytes = rows.stride_bytes,
        .codec = codec};
    const BusyLink link(backend, context.clock);
    for (const int64_t tokens : kTokens) {
      HostProduct form;
      form.dtype = dtype;
      form.tokens = tokens;
      form.k = kK;
      profile.host_rates.push_back(
          {.tokens = tokens,
           .codec = codec,
           .gbps = measure_rate(*workers, meetings, form, run, context.clock)});
      if (tokens == 1) profile.shared_link_gbps = std::max(profile.shared_link_gbps, link.gbps());
    }
    if (profile.shared_link_gbps <= 0) profile.shared_link_gbps = link.gbps();
  }
  if (profile.shared_link_gbps <= 0) profile.shared_link_gbps = profile.link_gbps;  // a slow link
  profile.host_threads = threads;
}

}  // namespace headrace
