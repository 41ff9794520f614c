#include "tests/gpu/mirrored_backend.h"

#include <algorithm>
#include <utility>

namespace headrace::testing {
namespace {

constexpr size_t kReadableTail = 64;

size_t bytes_of(int64_t count, size_t element_bytes) {
  return static_cast<size_t>(count) * element_bytes;
}

/// From K of the first block to V of the last that a sequence has.
size_t cache_bytes(const KvLayer& kv, std::span<const SequenceRows> sequences) {
  int32_t most = 0;
  for (const SequenceRows& sequence : sequences) {
    for (const int32_t block : sequence.blocks) most = std::max(most, block);
  }
  return static_cast<size_t>(kv.v - kv.k) +
         bytes_of(most * kv.shape.block_stride() + kv.shape.block_elements(),
                  dtype_size(kv.shape.dtype));
}

}  // namespace

Buffer MirroredBackend::mirror(const void* data, size_t size_bytes) {
  Buffer buffer = device_->allocate(size_bytes, "test");
  device_->upload(buffer.data(), {static_cast<const std::byte*>(data), size_bytes});
  return buffer;
}

void MirroredBackend::widen(DType dtype, const std::byte* rows, int64_t tokens, int64_t width,
                            float* out) {
  const Buffer in = mirror(rows, bytes_of(tokens * width, dtype_size(dtype)));
  const size_t out_bytes = bytes_of(tokens * width, sizeof(float));
  const Buffer result = mirror(out, out_bytes);
  device_->widen(dtype, in.data(), tokens, width, result.floats());
  fetch(out, result, out_bytes);
}

void MirroredBackend::rms_norm(const float* x, const float* weight, float epsilon, int64_t tokens,
                               int64_t width, DType out_dtype, std::byte* out) {
  const Buffer in = mirror(x, bytes_of(tokens * width, sizeof(float)));
  const Buffer scale = mirror(weight, bytes_of(width, sizeof(float)));
  const size_t out_bytes = bytes_of(tokens * width, dtype_size(out_dtype));
  const Buffer result = mirror(out, out_bytes);
  device_->rms_norm(in.floats(), scale.floats(), epsilon, tokens, width, out_dtype, result.data());
  fetch(out, result, out_bytes);
}

void MirroredBackend::silu_multiply(const float* a, const float* b, int64_t tokens, int64_t width,
                                    DType out_dtype, std::byte* out) {
  const Buffer first = mirror(a, bytes_of(tokens * width, sizeof(float)));
  const Buffer second = mirror(b, bytes_of(tokens * width, sizeof(float)));
  const size_t out_bytes = bytes_of(tokens * width, dtype_size(out_dtype));
  const Buffer result = mirror(out, out_bytes);
  device_->silu_multiply(first.floats(), second.floats(), tokens, width, out_dtype, result.data());
  fetch(out, result, out_bytes);
}

namespace {

/// Passes on the leases of a feed with their runs moved to device memory.
class MirroredFeed : public WeightFeed {
 public:
  MirroredFeed(WeightFeed& feed, Backend& device) : feed_(feed), device_(device) {}

  bool next(Lease& lease) override {
    lease.release();
    host_.release();
    if (!feed_.next(host_)) return false;
    runs_.assign(host_.runs().begin(), host_.runs().end());
    for (WeightRun& run : runs_) {
      const size_t size = bytes_of(run.rows, run.row_stride_bytes) + kReadableTail;
      Buffer& copy = copies_.emplace_back(device_.allocate(size, "test"));
      device_.upload(copy.data(), {run.data, size - kReadableTail});
      run.data = copy.data();
    }
    lease = Lease(nullptr, 0, runs_);
    return true;
  }

 private:
  WeightFeed& feed_;
  Backend& device_;
  Lease host_;
  std::vector<WeightRun> runs_;
  std::vector<Buffer> copies_;
};

}  // namespace

void MirroredBackend::matmul(const MatmulArgs& args, WeightFeed& weights) {
  const Buffer x = mirror(args.x, bytes_of(args.tokens, args.x_stride_bytes));
  std::vector<MatrixOutput> outputs(args.outputs.begin(), args.outputs.end());
  std::vector<Buffer> results;
  std::vector<size_t> output_bytes;
  std::vector<Buffer> biases;
  for (MatrixOutput& output : outputs) {
    const int64_t floats = (args.tokens - 1) * output.stride + output.rows;
    output_bytes.push_back(bytes_of(floats, sizeof(float)));
    results.push_back(mirror(output.out, output_bytes.back()));
    output.out = results.back().floats();
    if (output.bias == nullptr) continue;
    biases.push_back(mirror(output.bias, bytes_of(output.rows, sizeof(float))));
    output.bias = biases.back().floats();
  }
  MatmulArgs mirrored = args;
  mirrored.x = x.data();
  mirrored.outputs = outputs;
  MirroredFeed feed(weights, *device_);
  device_->matmul(mirrored, feed);
  for (size_t i = 0; i < results.size(); ++i) {
    fetch(args.outputs[i].out, results[i], output_bytes[i]);
  }
}

void MirroredBackend::rope_and_store(const RopeStoreArgs& args) { rope_ = args; }

void MirroredBackend::attention(const AttentionArgs& args) {
  const std::optional<RopeStoreArgs> rope = std::exchange(rope_, std::nullopt);
  const Buffer qkv = mirror(args.qkv, bytes_of(args.tokens * args.qkv_stride, sizeof(float)));
  const size_t kv_bytes = cache_bytes(args.kv, args.sequences);
  const Buffer cache = mirror(args.kv.k, kv_bytes);
  const size_t out_bytes =
      bytes_of(args.tokens * args.heads * args.head_dim, dtype_size(args.out_dtype));
  const Buffer out = mirror(args.out, out_bytes);
  AttentionArgs mirrored = args;
  mirrored.qkv = qkv.floats();
  mirrored.kv.k = cache.data();
  mirrored.kv.v = cache.data() + (args.kv.v - args.kv.k);
  mirrored.out = out.data();
  Buffer cos;
  Buffer sin;
  if (rope) {
    const size_t angles = bytes_of(rope->tokens * rope->head_dim / 2, sizeof(float));
    cos = mirror(rope->cos, angles);
    sin = mirror(rope->sin, angles);
    RopeStoreArgs rotated = *rope;
    rotated.qkv = qkv.floats();
    rotated.cos = cos.floats();
    rotated.sin = sin.floats();
    rotated.kv = mirrored.kv;
    device_->rope_and_store(rotated);
  }
  device_->attention(mirrored);
  fetch(args.out, out, out_bytes);
  fetch(args.kv.k, cache, kv_bytes);
}

bool MirroredBackend::best_tokens(const float* logits, int64_t vocab, const BestTokens& best) {
  const auto rows = static_cast<int64_t>(best.log_sums.size());
  const Buffer mirrored = mirror(logits, bytes_of(rows * vocab, sizeof(float)));
  return device_->best_tokens(mirrored.floats(), vocab, best);
}

}  // namespace headrace::testing
