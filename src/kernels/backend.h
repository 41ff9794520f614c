#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "device/buffer.h"
#include "device/copy_queue.h"
#include "device/growable_memory.h"
#include "kernels/host_workers.h"
#include "kernels/weights.h"
#include "kv/kv_cache.h"
#include "tensor/dtype.h"

namespace headrace {

class ThreadPool;

/// Where one matrix of a group writes: out[t * stride + row] for every token row t.
struct MatrixOutput {
  int64_t rows = 0;
  float* out = nullptr;
  int64_t stride = 0;           // floats between token rows
  const float* bias = nullptr;  // [rows] or null
  bool accumulate = false;      // out += dot + bias instead of out = dot + bias
};

/// out = W x for all matrices of a group. x is [tokens, k] in `dtype`, token rows x_stride_bytes
/// apart.
struct MatmulArgs {
  DType dtype = DType::kFloat16;
  int64_t tokens = 0;
  int64_t pass_tokens = 0;  // token rows of the whole pass, if more: they choose the row class
  int64_t k = 0;
  const std::byte* x = nullptr;
  size_t x_stride_bytes = 0;
  std::span<const MatrixOutput> outputs;  // by WeightRun::matrix
};

/// The token rows [row_begin, row_begin + rows) of a pass belong to one sequence and are its
/// positions [position, position + rows). `blocks` is the sequence's block table, long enough for
/// all of them.
struct SequenceRows {
  int64_t row_begin = 0;
  int64_t rows = 0;
  int64_t position = 0;
  std::span<const int32_t> blocks;
};

/// Rotates Q (in place) and K of a fused qkv [tokens, (heads + 2 kv_heads) * head_dim] float32, in
/// the half-split ("neox") pairing (i, i + head_dim / 2), then stores K and V in the cache, rounded
/// to its dtype. cos and sin are [tokens, head_dim / 2] float32. Q is meant for attention() over
/// the same rows: a backend may rotate it there instead, and leave qkv as it was.
struct RopeStoreArgs {
  int64_t tokens = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  float* qkv = nullptr;
  const float* cos = nullptr;
  const float* sin = nullptr;
  std::span<const SequenceRows> sequences;
  KvLayer kv;
};

/// Causal attention of each token row over its sequence's cache up to and including its own
/// position. q is the first heads * head_dim columns of the rotated qkv; out is [tokens, heads *
/// head_dim] in out_dtype, packed.
struct AttentionArgs {
  int64_t tokens = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  float scale = 1.0f;
  const float* qkv = nullptr;
  int64_t qkv_stride = 0;  // floats between token rows
  std::span<const SequenceRows> sequences;
  KvLayer kv;
  DType out_dtype = DType::kFloat16;
  std::byte* out = nullptr;
};

/// The largest passes that a backend has to run, for the scratch that it keeps for itself.
struct PassLimits {
  int64_t max_tokens = 0;     // token rows of a pass
  int64_t max_sequences = 1;  // sequences in a pass
  int64_t max_context = 0;    // positions of a sequence; 0: no attention is run
  int64_t max_k = 0;          // columns of a matrix
  int64_t max_logit_rows = 0;
  int64_t heads = 0;
  int64_t head_dim = 0;
  DType dtype = DType::kFloat16;
  /// Up to so many token rows a pass follows the canonical order (docs/numerics.md); 0: every pass.
  /// A backend without another order ignores it.
  int64_t canonical_rows = 0;
  bool coded = false;  // weights may be in a code that not every op reads: scratch to decode them
};

/// The most likely tokens of rows of logits, `count` of each: for row r they are [r * count, (r +
/// 1) * count), the largest logit first, and of equal ones the smaller id.
struct BestTokens {
  int64_t count = 1;
  std::span<int32_t> ids;
  std::span<float> logits;
  std::span<float> log_sums;  // by row: ln(sum of exp(logit - the largest logit))
};

/// Largest count of BestTokens.
inline constexpr int64_t kMostBestTokens = 128;

/// Where the mathematics happens: a few coarse ops over memory that the backend allocated. Ops are
/// enqueued in order; synchronize() waits for all of them (on the CPU backends each op has finished
/// when it returns). Every op's result is fixed bit for bit by docs/numerics.md, whatever the
/// number of threads, the instruction set, or how a group's rows are cut into runs. Used by one
/// thread.
class Backend {
 public:
  virtual ~Backend() = default;

  /// One line for reports: "cpu avx512, 2 threads".
  virtual std::string description() const = 0;

  /// Zeroed memory that ops can use. Error{kOutOfMemory} naming `purpose`.
  virtual Buffer allocate(size_t size_bytes, const char* purpose) = 0;
  /// The same of memory that can grow to `most_bytes`; empty at first. Not in the time of a pass.
  virtual std::unique_ptr<GrowableMemory> allocate_growable(size_t most_bytes,
                                                            const char* purpose) {
    return reserve_host(most_bytes, purpose);
  }
  virtual void upload(std::byte* to, std::span<const std::byte> from) = 0;
  /// upload() of `rows` rows of row_bytes each that write(first, to) makes on the way, some whole
  /// rows at a time, from `first` on. The copy may wait for the next op or synchronize(), until
  /// which `to` stays.
  using RowWriter = std::function<void(int64_t first, std::span<std::byte> to)>;
  virtual void upload_rows(std::byte* to, size_t row_bytes, int64_t rows, const RowWriter& write) {
    write(0, {to, row_bytes * static_cast<size_t>(rows)});
  }
  virtual void download(std::span<std::byte> to, const std::byte* from) = 0;
  /// Within the backend's memory, in the order of ops. The two do not overlap.
  virtual void copy(std::byte* to, const std::byte* from, size_t size_bytes) {
    std::memcpy(to, from, size_bytes);
  }
  virtual void synchronize() = 0;

  /// out[t] = float32(rows[t]) for `tokens` rows of `width` elements of `dtype`, packed.
  virtual void widen(DType dtype, const std::byte* rows, int64_t tokens, int64_t width,
                     float* out) = 0;
  /// out[t] = float32(rows[places[t]]), likewise. `places` is in host memory and free when the call
  /// returns.
  virtual void widen_places(DType dtype, const std::byte* rows, std::span<const int32_t> places,
                            int64_t width, float* out) = 0;

  /// out[t, i] = round_to_dtype(x[t, i] * rsqrt(mean_i(x[t, i]^2) + epsilon) * weight[i]), packed.
  /// (Zhang and Sennrich 2019, equation 4.)
  virtual void rms_norm(const float* x, const float* weight, float epsilon, int64_t tokens,
                        int64_t width, DType out_dtype, std::byte* out) = 0;

  virtual void matmul(const MatmulArgs& args, WeightFeed& weights) = 0;
  virtual void rope_and_store(const RopeStoreArgs& args) = 0;
  virtual void attention(const AttentionArgs& args) = 0;

  /// out[t, i] = round_to_dtype(silu(a[t, i]) * b[t, i]), silu(z) = z / (1 + exp(-z)). a and b are
  /// [tokens, width] float32, packed (Shazeer 2020, equation 5, SwiGLU).
  virtual void silu_multiply(const float* a, const float* b, int64_t tokens, int64_t width,
                             DType out_dtype, std::byte* out) = 0;

  /// silu_multiply() of the products of a group of two matrices, by the same bits: silu of the
  /// first one's times the second one's, rounded to args.dtype. args.outputs, packed [tokens,
  /// rows], are scratch. REQUIRES: the matrices have equally many rows.
  virtual void gated_matmul(const MatmulArgs& args, WeightFeed& weights, std::byte* out) {
    matmul(args, weights);
    silu_multiply(args.outputs[0].out, args.outputs[1].out, args.tokens, args.outputs[0].rows,
                  args.dtype, out);
  }

  /// Scratch that ops keep for themselves (packed x and the like) for passes up to these limits, in
  /// bytes, so that the plan can report it; allocated here, once, and never on the per-pass path.
  virtual size_t reserve(const PassLimits& limits) = 0;

  /// Says which rows the next pass holds; rope_and_store and attention then get the same ones, and
  /// the block tables do not change until the pass has ended.
  virtual void begin_pass(std::span<const SequenceRows> /*sequences*/) {}

  /// Finds the likeliest tokens of logits [best.log_sums.size(), vocab], and waits for the result.
  /// False if this backend leaves that to the host. A NaN or +infinity among a row's logits gives a
  /// log_sum that is not finite. REQUIRES: 1 <= best.count <= min(vocab, kMostBestTokens).
  virtual bool best_tokens(const float* /*logits*/, int64_t /*vocab*/, const BestTokens& /*best*/) {
    return false;
  }

  /// A queue of copies from host memory, for backends whose memory is not the host's; null for
  /// others.
  virtual std::unique_ptr<CopyQueue> make_copy_queue(int /*slots*/) { return nullptr; }
  /// Whether fast memory is apart from the host's, so that weights stream from host memory.
  virtual bool has_own_memory() const { return false; }
  /// Bytes of its own memory that can still be allocated, and that are in use by whomever; nothing
  /// if it has none of its own.
  virtual std::optional<uint64_t> free_memory_bytes() const { return {}; }
  virtual std::optional<uint64_t> used_memory_bytes() const { return {}; }
  /// Lets host threads multiply what feeds leave to them (WeightFeed::host_runs()): products of up
  /// to `max_k` columns and, in a group, `max_rows` rows. Feeds of passes of more than
  /// kMostHostTokens token rows leave nothing. For backends with memory of their own.
  virtual void use_host_workers(const HostWorkersFactory& /*make_workers*/, int64_t /*max_k*/,
                                int64_t /*max_rows*/) {}
  /// Ends what host threads still have to do for ops that were never enqueued, as after a failure,
  /// so that the weights may go. REQUIRES: synchronized.
  virtual void end_host_products() {}
  /// Null if it has none.
  virtual const HostWorkers* host_workers() const { return nullptr; }
  /// For reports: "sm90", or "cpu".
  virtual std::string compute_capability() const { return "cpu"; }
  /// Fixes host memory that copies will read; page-aligned. Error{kOutOfMemory} if the system
  /// refuses. Undone by unpin() before the memory goes. Any thread may call both.
  virtual void pin(std::span<std::byte> /*memory*/) {}
  virtual void unpin(std::span<std::byte> /*memory*/) {}
};

/// The scalar definition of every op. Slow; for tests.
std::unique_ptr<Backend> make_reference_backend();

/// Instruction sets of the CPU backend, best last.
enum class CpuIsa { kPortable, kAvx2, kAvx512 };

/// The best that this processor has.
CpuIsa detect_cpu_isa();
const char* cpu_isa_name(CpuIsa isa);

/// The CUDA backend of device `index`, from libheadrace_cuda.so beside the program. Error{kDevice}
/// that says what is missing: library, driver or device.
std::unique_ptr<Backend> make_cuda_backend(int index);

/// `pool` must outlive the backend. An instruction set that the processor lacks is Error{kDevice}.
std::unique_ptr<Backend> make_cpu_backend(ThreadPool& pool, CpuIsa isa);

}  // namespace headrace
