#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_runtime_api.h>

#include "codec/codec_id.h"
#include "tensor/dtype.h"

/// One function per kernel: enqueues it and returns. Pointers are device memory unless
/// said otherwise. Results are fixed bit for bit by docs/numerics.md. No function allocates, waits
/// or checks for errors: the caller asks cudaGetLastError() once for a batch of launches.
namespace headrace::cuda {

/// The stream that ops are enqueued on. A kernel may begin while the kernel before it still runs
/// (launch.cuh), unless something else than a kernel came between them.
struct Queue {
  cudaStream_t stream = nullptr;
  int multiprocessors = 0;
  int shared_bytes = 0;      // that a block may use
  bool can_overlap = false;  // the device can at all
  bool may_overlap = false;  // the last thing enqueued began after all before it, or waits for them

  /// Says that a copy or an event is being enqueued.
  cudaStream_t interrupted() {
    may_overlap = false;
    return stream;
  }
};

// --- elementwise.cu -----------------------------------------------------------------------------

inline constexpr int32_t kMostStagedCopies = 8;

/// Bytes on their way from pinned host memory; both ends are aligned to 16 bytes, and no two copies
/// go to the same place.
struct StagedCopies {
  struct Copy {
    std::byte* to;
    const std::byte* from;
    int32_t bytes;
  };
  Copy copies[kMostStagedCopies] = {};
  int32_t count = 0;
};

/// What is enqueued next begins when the copies are there.
void copy_staged(const StagedCopies& staged, Queue& queue);

/// out[i] = float32(in[i]).
void widen(DType dtype, const std::byte* in, int64_t count, float* out, Queue& queue);

/// Backend::widen_places, places on the device.
void widen_places(DType dtype, const std::byte* rows, const int32_t* places, int64_t tokens,
                  int64_t width, float* out, Queue& queue);

/// Arguments of Backend::rms_norm. x and out are packed [tokens, width].
struct NormRows {
  const float* x = nullptr;
  const float* weight = nullptr;
  float epsilon = 0;
  int64_t tokens = 0;
  int64_t width = 0;
  DType out_dtype = DType::kFloat16;
  std::byte* out = nullptr;
};

/// Backend::rms_norm; x and weight are aligned to 16 bytes, out to four elements, where width is a
/// multiple of 4.
void rms_norm(const NormRows& rows, Queue& queue);

/// Backend::silu_multiply over `count` elements; a, b and out are aligned to 16 bytes.
void silu_multiply(const float* a, const float* b, int64_t count, DType out_dtype, std::byte* out,
                   Queue& queue);

/// out[t * stride + row] += bias[row] for rows [0, rows) of `tokens` token rows.
void add_bias(float* out, int64_t stride, int64_t tokens, int64_t rows, const float* bias,
              Queue& queue);

// --- attention.cu -------------------------------------------------------------------------------

/// Consecutive token rows [row_begin, row_begin + rows) of one sequence, positions [position,
/// position + rows). Its block table is blocks[table_begin], ... of the pass.
struct RowTile {
  int32_t row_begin = 0;
  int32_t rows = 0;
  int32_t position = 0;
  int32_t table_begin = 0;
};

/// Token rows of a tile for attention of many rows of one sequence.
inline constexpr int32_t kPrefillTileRows = 64;

struct KvView {
  std::byte* k = nullptr;  // layout: kv/kv_cache.h
  std::byte* v = nullptr;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t block_tokens = 0;
  int64_t block_stride = 0;  // KvShape::block_stride()
  DType dtype = DType::kFloat16;
};

struct RopeParams {
  const RowTile* tiles = nullptr;  // [tiles], any rows each
  int32_t tile_count = 0;
  int32_t most_rows = 0;  // of a tile
  const int32_t* blocks = nullptr;
  int64_t heads = 0;
  float* qkv = nullptr;        // [tokens, (heads + 2 kv_heads) * head_dim]
  const float* cos = nullptr;  // [tokens, head_dim / 2]
  const float* sin = nullptr;
  bool keep_q = false;  // Q stays as it is: attention rotates it
  KvView kv;
};

/// Backend::rope_and_store; qkv, cos and sin are aligned to 16 bytes.
void rope_and_store(const RopeParams& params, Queue& queue);

/// Rotation of Q on the way of attention; null pointers: done before.
struct FusedRope {
  const float* cos = nullptr;  // [tokens, head_dim / 2]
  const float* sin = nullptr;
  bool stores = false;  // K is rotated and K and V are stored too; only in attention_one_row, in
                        // passes of one row a sequence: other positions are of earlier passes, so
                        // that the kernel may read them before the one before it has ended
};

struct AttentionParams {
  const RowTile* tiles = nullptr;
  int32_t tile_count = 0;
  int32_t max_splits = 0;   // of the longest context in the tiles; a split is kAttentionSplit
  int32_t part_splits = 1;  // consecutive splits of a block (attention_decode.cu sets it)
  const int32_t* blocks = nullptr;
  int64_t heads = 0;
  float scale = 1.0f;
  const float* qkv = nullptr;
  int64_t qkv_stride = 0;
  FusedRope rope = {};        // only where attention_is_specialized()
  bool matrix_class = false;  // likewise
  bool whole_steps = false;   // every tile begins at a multiple of kAttentionStep
  KvView kv;
  DType out_dtype = DType::kFloat16;
  std::byte* out = nullptr;     // [tokens, heads * head_dim]
  float* partials = nullptr;    // scratch of attention_one_row: attention_partial_floats()
  int32_t* counters = nullptr;  // scratch of attention_one_row: [tile_count, heads], zero between
                                // launches (the kernel leaves it zero)
};

/// Attention for tiles of exactly one row (decode): a block per (tile, head, part of the splits);
/// one of them, which comes last or waits for the others, folds their splits in order.
void attention_one_row(const AttentionParams& params, Queue& queue);
/// Whether there are kernels for this head size and 16-bit caches and outputs: those rotate on
/// their way, and only they know the matrix class.
bool attention_is_specialized(const KvView& kv, DType out_dtype);
/// Floats of scratch that attention_one_row needs.
int64_t attention_partial_floats(int64_t tiles, int64_t heads, int64_t splits, int64_t head_dim);

/// Attention for tiles of 1 to kPrefillTileRows rows (prefill): a block per (tile, head). The same
/// bits as attention_one_row.
void attention_many_rows(const AttentionParams& params, Queue& queue);
// --- sampling.cu --------------------------------------------------------------------------------

/// What sampling needs of a row of logits when only its largest count.
struct TopLogit {
  int32_t id = 0;     // the smallest id among equals
  float logit = 0;    // the largest logit; NaN logits are never larger
  float sum_exp = 0;  // sum over the row of exp(logit[i] - logit), in a fixed order
};

/// top[row] for each of `rows` rows of logits [rows, vocab].
void top_logits(const float* logits, int64_t rows, int64_t vocab, TopLogit* top, Queue& queue);

/// The `count` largest logits of each row, in no order, as keys: best [rows, count].
void best_logits(const float* logits, int64_t rows, int64_t vocab, int64_t count, uint64_t* best,
                 Queue& queue);

/// What a key of best_logits stands for.
struct KeyedLogit {
  int32_t id = 0;
  float logit = 0;
};
/// Keys are larger for larger logits, and of equal logits for smaller ids.
KeyedLogit logit_of_key(uint64_t key);

// --- products -----------------------------------------------------------------------------------

/// A run of rows of one matrix and where its products go.
struct MatmulRun {
  const std::byte* weights = nullptr;
  size_t row_stride_bytes = 0;  // a multiple of 16; of coded rows, of 64
  float* out = nullptr;         // of the run's first row
  int64_t out_stride = 0;       // floats between token rows
  const float* bias = nullptr;  // of the run's first row, or null
  int32_t rows = 0;
  int32_t accumulate = 0;
};

inline constexpr int32_t kMaxRunsPerLaunch = 16;

/// Products of up to kMaxRunsPerLaunch runs with the same x [tokens, k], all in `dtype` and
/// `codec`.
struct MatmulRuns {
  DType dtype = DType::kFloat16;
  CodecId codec = CodecId::kRaw;
  const MatmulRun* runs = nullptr;
  int32_t run_count = 0;
  const std::byte* x = nullptr;
  size_t x_stride_bytes = 0;
  int64_t tokens = 0;
  int64_t k = 0;
};

/// Token rows up to which a product can take the norm along that makes its x.
inline constexpr int64_t kMostNormedTokens = 2;

/// Multiplies raw rows by the canonical sum. A norm that is not null comes first and writes x: on
/// the way, if the kernel is made for it.
void canonical_matmul(const MatmulRuns& matmul, const NormRows* norm, Queue& queue);

/// canonical_matmul() of coded rows, decoded on the way. REQUIRES: canonical_coded_fits().
void canonical_matmul_coded(const MatmulRuns& matmul, const NormRows* norm, Queue& queue);
/// Whether there is a kernel for the device and shape.
bool canonical_coded_fits(const MatmulRuns& matmul, const Queue& queue);

/// Coded rows (codec/row_layout.h) and where their elements go, k of them rounded up to 16 bytes a
/// row, with zeros after them.
struct CodedRows {
  CodecId codec = CodecId::kE3;
  DType dtype = DType::kFloat16;
  int64_t k = 0;
  const std::byte* rows = nullptr;
  size_t row_stride_bytes = 0;
  int64_t count = 0;
  std::byte* out = nullptr;
};

/// Decodes rows. Kernels that read them before they wait for the one before must not overlap with
/// this one: Queue::interrupted().
void decode_rows(const CodedRows& coded, Queue& queue);

/// Token rows up to which there is matrix_matmul().
inline constexpr int64_t kMostMatrixTokens = 64;

/// Multiplies on tensor cores: an output's products are added 16 columns at a time, in order.
/// 16-bit numbers; k, rows and strides as Gemm::supports() wants them.
void matrix_matmul(const MatmulRuns& matmul, Queue& queue);

/// A stretch of rows of a group of two matrices, raw, and where its activations go.
struct GatedRows {
  const std::byte* first = nullptr;  // its silu
  size_t first_stride_bytes = 0;
  const std::byte* second = nullptr;  // is multiplied by this one's
  size_t second_stride_bytes = 0;
  int64_t rows = 0;
  std::byte* out = nullptr;  // of the stretch's first row
};

/// What stretches have in common. 16-bit numbers, multiples of 16 bytes in everything.
struct GatedMatmul {
  DType dtype = DType::kFloat16;
  const std::byte* x = nullptr;  // [tokens, k]
  size_t x_stride_bytes = 0;
  int64_t tokens = 0;
  int64_t k = 0;
  size_t out_stride_bytes = 0;
  uint32_t* started = nullptr;  // scratch: kGatedWaves of them
};
inline constexpr int64_t kGatedWaves = 65536;

/// Backend::gated_matmul of a stretch, for many token rows, on tensor cores, 16 columns at a time
/// in order: fp32 products stay in registers. False, and nothing is done, where there is no such
/// kernel (sm_90a has one), with too many token rows, or if the driver cannot describe the
/// matrices.
bool gated_matmul(const GatedMatmul& matmul, const GatedRows& rows, Queue& queue);

}  // namespace headrace::cuda
