#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <cuda_runtime_api.h>

#include "kernels/backend.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/host_meeting.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/staging.h"

namespace headrace::cuda {

/// Backend of one CUDA device. Ops are enqueued on one stream and run in order; only allocate(),
/// download(), synchronize(), best_tokens() and uploads that outrun the staging memory wait. A norm
/// or a rotation may wait for the next op, which can take it along, or short uploads, which go
/// together: never both, as either enqueues the other first. Used by one thread.
class CudaBackend : public Backend {
 public:
  explicit CudaBackend(int index);
  ~CudaBackend() override;
  CudaBackend(const CudaBackend&) = delete;
  CudaBackend& operator=(const CudaBackend&) = delete;

  std::string description() const override;
  Buffer allocate(size_t size_bytes, const char* purpose) override;
  std::unique_ptr<GrowableMemory> allocate_growable(size_t most_bytes,
                                                    const char* purpose) override;
  void upload(std::byte* to, std::span<const std::byte> from) override;
  void upload_rows(std::byte* to, size_t row_bytes, int64_t rows, const RowWriter& write) override;
  void download(std::span<std::byte> to, const std::byte* from) override;
  void copy(std::byte* to, const std::byte* from, size_t size_bytes) override;
  void synchronize() override;

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

  void gated_matmul(const MatmulArgs& args, WeightFeed& weights, std::byte* out) override;

  size_t reserve(const PassLimits& limits) override;
  void begin_pass(std::span<const SequenceRows> sequences) override;
  bool best_tokens(const float* logits, int64_t vocab, const BestTokens& best) override;

  std::unique_ptr<CopyQueue> make_copy_queue(int slots) override;
  bool has_own_memory() const override { return true; }
  std::optional<uint64_t> free_memory_bytes() const override;
  std::optional<uint64_t> used_memory_bytes() const override;
  std::string compute_capability() const override;
  void use_host_workers(const HostWorkersFactory& make_workers, int64_t max_k,
                        int64_t max_rows) override;
  void end_host_products() override;
  const HostWorkers* host_workers() const override;
  void pin(std::span<std::byte> memory) override;
  void unpin(std::span<std::byte> memory) override;

 private:
  /// The rows of a pass as kernels see them, in `pass_memory_`.
  struct PassRows {
    int64_t tokens = 0;
    const int32_t* blocks = nullptr;
    const RowTile* sequences = nullptr;  // a tile each
    int32_t sequence_count = 0;
    int32_t most_rows = 0;  // of a sequence
    const RowTile* single_rows = nullptr;
    int32_t single_row_count = 0;
    int32_t single_row_splits = 0;   // of the longest context
    const RowTile* tiles = nullptr;  // of sequences with more rows
    int32_t tile_count = 0;
    int32_t whole_step_count = 0;  // of them, the first: they begin at a multiple of kAttentionStep
  };

  /// Enqueues the uploads that wait and the op that does, if there are any; returns the queue.
  Queue& ops();
  void enqueue_waiting_op();
  bool writes_x(const MatmulArgs& args) const;
  FusedRope take_rope(const AttentionParams& params);
  bool canonical(int64_t pass_tokens) const;
  bool canonical(const MatmulArgs& args, uint32_t matrix) const;
  void multiply(const MatmulArgs& args, std::span<const WeightRun> runs);
  void multiply(const MatmulArgs& args, const MatmulRuns& matmul, bool in_order);
  void multiply_decoded(const MatmulArgs& args, const MatmulRuns& coded, bool in_order);
  void reserve_best(size_t size_bytes);
  Buffer& grown(Buffer& buffer, size_t size_bytes, const char* purpose);

  const int index_;
  int64_t canonical_rows_ = 0;  // 0: every pass
  Queue queue_;
  std::unique_ptr<Staging> staging_;
  std::unique_ptr<HostMeeting> meeting_;  // null: the host takes no share
  std::unique_ptr<Gemm> gemm_;            // null while every pass is canonical

  std::optional<NormRows> norm_;  // given, and not enqueued yet, at most one of both
  std::optional<RopeParams> rope_;
  PassRows pass_;
  std::vector<int32_t> pass_words_;  // what goes into pass_memory_
  Buffer pass_memory_;
  Buffer places_;  // of widen_places()
  Buffer attention_partials_;
  Buffer attention_counters_;
  Buffer decoded_;  // rows of runs that no kernel reads in their code
  Buffer best_;     // pinned host memory: what the kernels of best_tokens() find
};

}  // namespace headrace::cuda
