#include "kernels/cpu/cpu_backend.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "base/error.h"
#include "kernels/cpu/rope.h"

namespace headrace {
namespace {

/// Elements of a light op below which waking the other threads costs more than it saves.
constexpr int64_t kInlineElements = 16 * 1024;

}  // namespace

std::string CpuBackend::description() const {
  return fmt::format("cpu {}, {} thread{}", cpu_isa_name(isa_), pool_.size(),
                     pool_.size() == 1 ? "" : "s");
}

Buffer CpuBackend::allocate(size_t size_bytes, const char* purpose) {
  return allocate_host(size_bytes, purpose);
}

void CpuBackend::upload(std::byte* to, std::span<const std::byte> from) {
  if (!from.empty()) std::memcpy(to, from.data(), from.size());
}

void CpuBackend::download(std::span<std::byte> to, const std::byte* from) {
  if (!to.empty()) std::memcpy(to.data(), from, to.size());
}

/// body(begin, end) over [0, count), on all threads if that is worth their while.
template <typename Body>
void CpuBackend::for_elements(int64_t count, Body body) {
  if (count < kInlineElements) {
    body(int64_t{0}, count);
  } else {
    const int64_t grain = std::max(kInlineElements / 4, count / (pool_.size() * 8));
    pool_.parallel_for(count, grain, body);
  }
}

void CpuBackend::widen(DType dtype, const std::byte* rows, int64_t tokens, int64_t width,
                       float* out) {
  for_elements(tokens * width, [&](int64_t begin, int64_t end) {
    const size_t offset = static_cast<size_t>(begin) * dtype_size(dtype);
    kernels_.widen(dtype, rows + offset, end - begin, out + begin);
  });
}

void CpuBackend::widen_places(DType dtype, const std::byte* rows, std::span<const int32_t> places,
                              int64_t width, float* out) {
  const size_t row_bytes = static_cast<size_t>(width) * dtype_size(dtype);
  const int64_t rows_at_a_time = std::max<int64_t>(1, kInlineElements / width);
  pool_.parallel_for(static_cast<int64_t>(places.size()), rows_at_a_time,
                     [&](int64_t begin, int64_t end) {
                       for (int64_t t = begin; t < end; ++t) {
                         const auto place = static_cast<size_t>(places[static_cast<size_t>(t)]);
                         kernels_.widen(dtype, rows + place * row_bytes, width, out + t * width);
                       }
                     });
}

void CpuBackend::rms_norm(const float* x, const float* weight, float epsilon, int64_t tokens,
                          int64_t width, DType out_dtype, std::byte* out) {
  const auto rows = [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const size_t offset = static_cast<size_t>(t * width) * dtype_size(out_dtype);
      kernels_.rms_norm(x + t * width, weight, epsilon, width, out_dtype, out + offset);
    }
  };
  if (tokens * width < kInlineElements) return rows(0, tokens);
  pool_.parallel_for(tokens, 4, rows);
}

void CpuBackend::silu_multiply(const float* a, const float* b, int64_t tokens, int64_t width,
                               DType out_dtype, std::byte* out) {
  for_elements(tokens * width, [&](int64_t begin, int64_t end) {
    const size_t offset = static_cast<size_t>(begin) * dtype_size(out_dtype);
    kernels_.silu_multiply(a + begin, b + begin, end - begin, out_dtype, out + offset);
  });
}

void CpuBackend::rope_and_store(const RopeStoreArgs& args) {
  const int64_t width = (args.heads + 2 * args.kv_heads) * args.head_dim;
  const auto rows = [&](int64_t begin, int64_t end) {
    cpu::rope_and_store_rows(kernels_, args, begin, end);
  };
  if (args.tokens * width < kInlineElements) return rows(0, args.tokens);
  pool_.parallel_for(args.tokens, 8, rows);
}

void CpuBackend::attention(const AttentionArgs& args) {
  reserve_for(args.tokens, args.heads * args.head_dim);
  attention_plan_.make(args);
  const cpu::AttentionKernel kernel(kernels_, args);
  const auto& units = attention_plan_.units();
  if (pool_.size() == 1 || attention_plan_.products() < 4 * kInlineElements) {
    for (const cpu::AttentionUnit& unit : units) kernel.run(unit, thread_scratch(0));
    return;
  }
  if (units.size() < most_split_units() && attention_plan_.splits().size() > units.size()) {
    return attend_by_splits(kernel);
  }
  std::atomic<size_t> next{0};
  pool_.run([&](int thread) {
    for (size_t i = next.fetch_add(1); i < units.size(); i = next.fetch_add(1)) {
      kernel.run(units[i], thread_scratch(thread));
    }
  });
}

/// For few units with long contexts: threads share the splits, a wave of them at a time, which are
/// folded in order.
void CpuBackend::attend_by_splits(const cpu::AttentionKernel& kernel) {
  const auto& units = attention_plan_.units();
  const auto& splits = attention_plan_.splits();
  for (size_t u = 0; u < units.size(); ++u) kernel.clear(units[u], attention_sums(u));
  const size_t wave = splits_of_a_wave();
  for (size_t begin = 0; begin < splits.size(); begin += wave) {
    const size_t end = std::min(begin + wave, splits.size());
    std::atomic<size_t> next{begin};
    pool_.run([&](int thread) {
      for (size_t i = next.fetch_add(1); i < end; i = next.fetch_add(1)) {
        kernel.run_split(units[splits[i].unit], splits[i].begin, thread_scratch(thread),
                         attention_sums(most_split_units() + i - begin));
      }
    });
    for (size_t i = begin; i < end; ++i) {
      kernel.fold(units[splits[i].unit], splits[i].begin,
                  attention_sums(most_split_units() + i - begin), attention_sums(splits[i].unit));
    }
  }
  for (size_t u = 0; u < units.size(); ++u) kernel.write(units[u], attention_sums(u));
}

cpu::AttentionSums CpuBackend::attention_sums(size_t index) const {
  const auto floats = static_cast<size_t>(cpu::AttentionKernel::sums_floats(reserved_k_));
  return cpu::AttentionKernel::sums_at(attention_sums_.floats() + index * floats);
}

float* CpuBackend::thread_scratch(int thread) const {
  return scratch_.floats() + static_cast<size_t>(thread) * thread_scratch_floats_;
}

size_t CpuBackend::reserve(const PassLimits& limits) {
  reserve_for(limits.max_tokens, limits.max_k);
  return packed_x_.size_bytes() + reordered_x_.size_bytes() + scratch_.size_bytes() +
         attention_sums_.size_bytes();
}

void CpuBackend::reserve_for(int64_t tokens, int64_t k) {
  if (tokens <= reserved_tokens_ && k <= reserved_k_) return;
  reserved_tokens_ = std::max(tokens, reserved_tokens_);
  reserved_k_ = std::max(k, reserved_k_);
  const auto row_floats = static_cast<size_t>(cpu::decoded_elements(reserved_k_));
  packed_x_ = {};
  packed_x_ = allocate_host(static_cast<size_t>(reserved_tokens_) * row_floats * sizeof(float),
                            "packed activations");
  reordered_x_ = {};
  reordered_x_ =
      allocate_host(static_cast<size_t>(cpu::FewTokens::floats(reserved_k_)) * sizeof(float),
                    "packed activations");
  const int64_t most = std::max(cpu::MatmulBlocking::most_scratch_floats(reserved_k_),
                                cpu::AttentionKernel::scratch_floats(reserved_k_));
  decoded_floats_at_ = static_cast<size_t>((most + 1023) / 1024 * 1024);
  const int64_t decoded = cpu::RowDecoder::scratch_floats(reserved_k_);
  thread_scratch_floats_ = decoded_floats_at_ + static_cast<size_t>((decoded + 1023) / 1024 * 1024);
  scratch_ = {};
  scratch_ = allocate_host(
      static_cast<size_t>(pool_.size()) * thread_scratch_floats_ * sizeof(float), "kernel scratch");
  const size_t sums = most_split_units() + splits_of_a_wave();
  attention_sums_ = {};
  attention_sums_ = allocate_host(
      sums * static_cast<size_t>(cpu::AttentionKernel::sums_floats(reserved_k_)) * sizeof(float),
      "attention sums");
}

}  // namespace headrace
