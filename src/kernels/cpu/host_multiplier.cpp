#include "kernels/cpu/host_multiplier.h"

#include <atomic>
#include <bit>

namespace headrace {
namespace {

static_assert(kMostHostTokens <= cpu::kFewTokens);

constexpr const char* kPurpose = "products of host threads";

size_t bytes_of(int64_t floats) { return static_cast<size_t>(floats) * sizeof(float); }

}  // namespace

HostMultiplier::HostMultiplier(const cpu::FewTokens& few, int64_t max_k)
    : few_(few),
      x_(allocate_host(bytes_of(kMostHostTokens * max_k), kPurpose)),
      packed_x_(allocate_host(bytes_of(cpu::FewTokens::floats(max_k)), kPurpose)),
      reordered_x_(allocate_host(bytes_of(cpu::FewTokens::floats(max_k)), kPurpose)),
      decoded_(allocate_host(bytes_of(cpu::RowDecoder::scratch_floats(max_k)), kPurpose)),
      products_(allocate_host(bytes_of(kMostHostTokens * HostJob::kMostBatchRows), kPurpose)) {}

bool HostMultiplier::take_words(const HostProduct& product, uint32_t number, size_t first,
                                size_t count) {
  auto* const bits = reinterpret_cast<uint32_t*>(x_.data());
  return few_.kernels.take_words(product.x + first, count, number, bits + first);
}

void HostMultiplier::order_x(const HostProduct& product) {
  const size_t x_stride = words_of_x(product.k, product.dtype) * sizeof(uint32_t);
  forms_ = {.packed = packed_x_.floats(), .reordered = reordered_x_.floats()};
  few_.prepare_x(product.runs, product.dtype, x_.data(), x_stride, product.tokens, product.k,
                 forms_);
}

/// The rows of a batch may lie in several runs.
void HostMultiplier::multiply(const HostJob& job, HostPieces batch) const {
  const HostProduct& product = job.product;
  float* out = products_.floats();
  job.for_runs(batch, [&](const WeightRun& run, int64_t begin, int64_t rows) {
    multiply_rows(run, {.dtype = product.dtype,
                        .weights = run.data + static_cast<size_t>(begin) * run.row_stride_bytes,
                        .row_stride_bytes = run.row_stride_bytes,
                        .rows = rows,
                        .k = product.k,
                        .tokens = product.tokens,
                        .out = out,
                        .stride = HostJob::kMostBatchRows});
    out += rows;
  });
}

void HostMultiplier::multiply_rows(const WeightRun& run, cpu::MatrixRows matrix) const {
  const auto decoder =
      cpu::RowDecoder::of(few_.coded, run, matrix.dtype, matrix.k, decoded_.data());
  if (run.codec != CodecId::kRaw) matrix.decoder = &decoder;
  few_.multiply(matrix, forms_);
}

void HostMultiplier::hand_over(const HostJob& job, HostPieces batch, uint32_t mine,
                               uint32_t number) const {
  const int64_t first = job.first_row(batch.begin);
  for (; mine != 0; mine &= mine - 1) {
    const uint32_t piece = batch.begin + static_cast<uint32_t>(std::countr_zero(mine));
    const int64_t begin = job.first_row(piece);
    const int64_t rows = job.first_row(piece + 1) - begin;
    for (int64_t t = 0; t < job.product.tokens; ++t) {
      const float* const from = products_.floats() + t * HostJob::kMostBatchRows + begin - first;
      HostWord* const to = job.product.out + t * job.rows + begin;
      for (int64_t r = 0; r < rows; ++r) {
        const HostWord word = {.bits = std::bit_cast<uint32_t>(from[r]), .number = number};
        std::atomic_ref(to[r]).store(word, std::memory_order_relaxed);
      }
    }
  }
}

}  // namespace headrace
