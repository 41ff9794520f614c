#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/backend.h"
#include "kernels/cpu/attention.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/few_tokens.h"
#include "kernels/cpu/matmul_blocking.h"

namespace headrace {

/// Runs every op on a team of threads with the kernels of one instruction set. An op has finished
/// when it returns. Confined to one thread.
class CpuBackend : public Backend {
 public:
  CpuBackend(ThreadPool& pool, CpuIsa isa, const cpu::CpuKernels& kernels,
             const cpu::CodedKernels& coded)
      : pool_(pool), isa_(isa), kernels_(kernels), few_{.kernels = kernels, .coded = coded} {}

  std::string description() const override;
  Buffer allocate(size_t size_bytes, const char* purpose) override;
  void upload(std::byte* to, std::span<const std::byte> from) override;
  void download(std::span<std::byte> to, const std::byte* from) override;
  void synchronize() override {}

  void widen(DType dtype, const std::byte* rows, int64_t tokens, int64_t width,
             float* out) override;
  void widen_places(DType dtype, const std::byte* rows, std::span<const int32_t> places,
                    int64_t width, float* out) override;
  void rms_norm(const float* x, const float* weight, float epsilon, int64_t tokens, int64_t width,
                DType out_dtype, std::byte* out) override;
  void matmul(const MatmulArgs& args, WeightFeed& weights) override;
  void rope_and_store(const RopeStoreArgs& args) override;
  void attention(const AttentionArgs& args) override;
  void silu_multiply(const float* a, const float* b, int64_t tokens, int64_t width, DType out_dtype,
                     std::byte* out) override;
  size_t reserve(const PassLimits& limits) override;

 private:
  /// Rows of a run that one thread multiplies in one go.
  struct Piece {
    const WeightRun* run;
    int64_t begin;
    int64_t rows;
  };

  void reserve_for(int64_t tokens, int64_t k);
  void pack_x(const MatmulArgs& args, const cpu::LeafOrder& order);
  void cut_into_pieces(const MatmulArgs& args, std::span<const WeightRun> runs);
  int64_t rows_of_a_piece(const MatmulArgs& args, std::span<const WeightRun> runs) const;
  void multiply(const MatmulArgs& args, const cpu::LeafOrder& order, const Piece& piece,
                float* scratch) const;
  float* thread_scratch(int thread) const;

  void attend_by_splits(const cpu::AttentionKernel& kernel);
  cpu::AttentionSums attention_sums(size_t index) const;
  /// With fewer units than this, threads share the splits of units.
  size_t most_split_units() const { return 2 * static_cast<size_t>(pool_.size()); }
  size_t splits_of_a_wave() const { return 4 * static_cast<size_t>(pool_.size()); }

  template <typename Body>
  void for_elements(int64_t count, Body body);

  ThreadPool& pool_;
  CpuIsa isa_;
  const cpu::CpuKernels& kernels_;
  const cpu::FewTokens few_;

  int64_t reserved_tokens_ = 0;
  int64_t reserved_k_ = 0;
  Buffer packed_x_;
  Buffer reordered_x_;                // few token rows, for coded rows
  cpu::FewTokensX few_x_;             // of the product under way, in these two
  Buffer scratch_;                    // one part per thread
  size_t thread_scratch_floats_ = 0;  // of a part
  size_t decoded_floats_at_ = 0;      // in a part: decoded rows, after what kernels use
  Buffer attention_sums_;             // of split units, then of the splits of a wave
  std::vector<Piece> pieces_;         // of the lease in hand; keeps its capacity
  cpu::AttentionPlan attention_plan_;
};

}  // namespace headrace
