#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "base/error.h"
#include "codec/row_code.h"
#include "kernels/backend.h"
#include "kernels/numerics.h"
#include "kernels/reference/scalar_ops.h"

namespace headrace {
namespace {

using reference::canonical_dot;
using reference::load_element;
using reference::store_element;

/// Where position `position` of a sequence lies in a layer's cache.
struct KvPlace {
  int64_t block;  // its first element
  int64_t offset;

  KvPlace(const KvShape& shape, std::span<const int32_t> blocks, int64_t position)
      : block(blocks[static_cast<size_t>(position / shape.block_tokens)] * shape.block_stride()),
        offset(position % shape.block_tokens) {}

  /// Element of K (or V) for a head's dimension d.
  int64_t k_index(const KvShape& shape, int64_t head, int64_t d) const {
    return block + (head * shape.head_dim + d) * shape.block_tokens + offset;
  }
  int64_t v_index(const KvShape& shape, int64_t head, int64_t d) const {
    return block + (head * shape.block_tokens + offset) * shape.head_dim + d;
  }
};

/// Softmax-weighted sum of one split, or of all splits so far: max of the scores, sum of the
/// probabilities, and the sum of V weighted with them.
struct Softmax {
  explicit Softmax(int64_t head_dim) : weighted(static_cast<size_t>(head_dim), 0.0f) {}

  void fold(const Softmax& next) {
    const float both = next.max > max ? next.max : max;
    const float keep = reference::exp(max - both);
    const float take = reference::exp(next.max - both);
    sum = std::fma(take, next.sum, keep * sum);
    for (size_t d = 0; d < weighted.size(); ++d) {
      weighted[d] = std::fma(take, next.weighted[d], keep * weighted[d]);
    }
    max = both;
  }

  float max = -std::numeric_limits<float>::infinity();
  float sum = 0.0f;
  std::vector<float> weighted;
};

class ReferenceBackend : public Backend {
 public:
  std::string description() const override { return "reference, scalar"; }
  Buffer allocate(size_t size_bytes, const char* purpose) override {
    return allocate_host(size_bytes, purpose);
  }
  void upload(std::byte* to, std::span<const std::byte> from) override {
    if (!from.empty()) std::memcpy(to, from.data(), from.size());
  }
  void download(std::span<std::byte> to, const std::byte* from) override {
    if (!to.empty()) std::memcpy(to.data(), from, to.size());
  }
  void synchronize() override {}

  void widen(DType dtype, const std::byte* rows, int64_t tokens, int64_t width,
             float* out) override {
    for (int64_t i = 0; i < tokens * width; ++i) out[i] = load_element(dtype, rows, i);
  }
  void widen_places(DType dtype, const std::byte* rows, std::span<const int32_t> places,
                    int64_t width, float* out) override {
    for (const int32_t place : places) {
      for (int64_t i = 0; i < width; ++i) *out++ = load_element(dtype, rows, place * width + i);
    }
  }

  void rms_norm(const float* x, const float* weight, float epsilon, int64_t tokens, int64_t width,
                DType out_dtype, std::byte* out) override {
    for (int64_t t = 0; t < tokens; ++t) {
      const float* row = x + t * width;
      const float mean = reference::canonical_square_sum(row, width) / static_cast<float>(width);
      const float scale = 1.0f / std::sqrt(mean + epsilon);
      for (int64_t i = 0; i < width; ++i) {
        store_element(out_dtype, out, t * width + i, row[i] * scale * weight[i]);
      }
    }
  }

  void matmul(const MatmulArgs& args, WeightFeed& weights) override {
    Lease lease;
    while (weights.next(lease)) {
      for (const WeightRun& run : lease.runs()) multiply(args, run);
      lease.release();
    }
  }

  void rope_and_store(const RopeStoreArgs& args) override {
    for (const SequenceRows& sequence : args.sequences) {
      for (int64_t i = 0; i < sequence.rows; ++i) {
        rotate_row(args, sequence.row_begin + i);
        store_row(args, sequence, i);
      }
    }
  }

  void attention(const AttentionArgs& args) override {
    for (const SequenceRows& sequence : args.sequences) {
      for (int64_t i = 0; i < sequence.rows; ++i) {
        for (int64_t head = 0; head < args.heads; ++head) attend(args, sequence, i, head);
      }
    }
  }

  void silu_multiply(const float* a, const float* b, int64_t tokens, int64_t width, DType out_dtype,
                     std::byte* out) override {
    for (int64_t i = 0; i < tokens * width; ++i) {
      store_element(out_dtype, out, i, reference::silu(a[i]) * b[i]);
    }
  }

  size_t reserve(const PassLimits&) override { return 0; }

 private:
  static void multiply(const MatmulArgs& args, const WeightRun& run) {
    HR_CHECK(run.matrix < args.outputs.size());
    const MatrixOutput& output = args.outputs[run.matrix];
    HR_CHECK(run.row_begin >= 0 && run.row_begin + run.rows <= output.rows);
    std::vector<uint16_t> decoded;
    for (int64_t r = 0; r < run.rows; ++r) {
      const std::byte* w = run.data + static_cast<size_t>(r) * run.row_stride_bytes;
      if (run.codec != CodecId::kRaw) {
        decoded.resize(static_cast<size_t>(args.k));
        decode_row(RowLayout::of(run.codec, args.dtype, args.k, run.row_stride_bytes), w, decoded);
        w = reinterpret_cast<const std::byte*>(decoded.data());
      }
      const int64_t row = run.row_begin + r;
      for (int64_t t = 0; t < args.tokens; ++t) {
        const std::byte* x = args.x + static_cast<size_t>(t) * args.x_stride_bytes;
        float value = canonical_dot(args.dtype, w, x, args.k);
        if (output.bias != nullptr) value = value + output.bias[row];
        float& out = output.out[t * output.stride + row];
        out = output.accumulate ? out + value : value;
      }
    }
  }

  static void rotate_row(const RopeStoreArgs& args, int64_t row) {
    const int64_t half = args.head_dim / 2;
    const float* cos = args.cos + row * half;
    const float* sin = args.sin + row * half;
    const int64_t rotated_heads = args.heads + args.kv_heads;
    float* x = args.qkv + row * (rotated_heads + args.kv_heads) * args.head_dim;
    for (int64_t head = 0; head < rotated_heads; ++head, x += args.head_dim) {
      for (int64_t i = 0; i < half; ++i) {
        const float a = x[i];
        const float b = x[i + half];
        x[i] = a * cos[i] - b * sin[i];
        x[i + half] = b * cos[i] + a * sin[i];
      }
    }
  }

  static void store_row(const RopeStoreArgs& args, const SequenceRows& sequence, int64_t i) {
    const KvShape& shape = args.kv.shape;
    const int64_t width = (args.heads + 2 * args.kv_heads) * args.head_dim;
    const float* k = args.qkv + (sequence.row_begin + i) * width + args.heads * args.head_dim;
    const float* v = k + args.kv_heads * args.head_dim;
    const KvPlace place(shape, sequence.blocks, sequence.position + i);
    for (int64_t head = 0; head < args.kv_heads; ++head) {
      for (int64_t d = 0; d < args.head_dim; ++d, ++k, ++v) {
        store_element(shape.dtype, args.kv.k, place.k_index(shape, head, d), *k);
        store_element(shape.dtype, args.kv.v, place.v_index(shape, head, d), *v);
      }
    }
  }

  static float score(const AttentionArgs& args, const float* q, const KvPlace& place,
                     int64_t kv_head) {
    const KvShape& shape = args.kv.shape;
    float dot = 0.0f;
    for (int64_t d = 0; d < args.head_dim; ++d) {
      dot = std::fma(q[d], load_element(shape.dtype, args.kv.k, place.k_index(shape, kv_head, d)),
                     dot);
    }
    return dot * args.scale;
  }

  /// The positions [begin, end) of one split.
  static Softmax attend_split(const AttentionArgs& args, const SequenceRows& sequence,
                              const float* q, int64_t kv_head, int64_t begin, int64_t end) {
    const KvShape& shape = args.kv.shape;
    Softmax split(args.head_dim);
    std::vector<float> probabilities;
    for (int64_t t = begin; t < end; ++t) {
      const float s = score(args, q, KvPlace(shape, sequence.blocks, t), kv_head);
      probabilities.push_back(s);
      if (s > split.max) split.max = s;
    }
    std::array<float, numerics::kSumLanes> lanes{};
    for (size_t t = 0; t < probabilities.size(); ++t) {
      probabilities[t] = reference::exp(probabilities[t] - split.max);
      float& lane = lanes[t % lanes.size()];
      lane = lane + probabilities[t];
    }
    split.sum = reference::tree_sum(lanes);
    for (int64_t t = begin; t < end; ++t) {
      const KvPlace place(shape, sequence.blocks, t);
      const float p = probabilities[static_cast<size_t>(t - begin)];
      for (int64_t d = 0; d < args.head_dim; ++d) {
        float& sum = split.weighted[static_cast<size_t>(d)];
        sum = std::fma(p, load_element(shape.dtype, args.kv.v, place.v_index(shape, kv_head, d)),
                       sum);
      }
    }
    return split;
  }

  static void attend(const AttentionArgs& args, const SequenceRows& sequence, int64_t i,
                     int64_t head) {
    const int64_t row = sequence.row_begin + i;
    const float* q = args.qkv + row * args.qkv_stride + head * args.head_dim;
    const int64_t kv_head = head / (args.heads / args.kv_heads);
    const int64_t context = sequence.position + i + 1;
    Softmax all(args.head_dim);
    for (int64_t begin = 0; begin < context; begin += numerics::kAttentionSplit) {
      const int64_t end = std::min(begin + numerics::kAttentionSplit, context);
      all.fold(attend_split(args, sequence, q, kv_head, begin, end));
    }
    const int64_t out = (row * args.heads + head) * args.head_dim;
    for (int64_t d = 0; d < args.head_dim; ++d) {
      store_element(args.out_dtype, args.out, out + d,
                    all.weighted[static_cast<size_t>(d)] / all.sum);
    }
  }
};

}  // namespace

std::unique_ptr<Backend> make_reference_backend() { return std::make_unique<ReferenceBackend>(); }

}  // namespace headrace
