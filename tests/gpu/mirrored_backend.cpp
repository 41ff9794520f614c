#include "tests/gpu/mirrored_backend.h"

#include <algorithm>
#include <deque>
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

MirroredBackend::Mirror MirroredBackend::mirror(const void* data, size_t size_bytes) {
  Mirror mirror = {.buffer = device_->allocate(size_bytes, "test"), .size_bytes = size_bytes};
  device_->upload(mirror.data(), {static_cast<const std::byte*>(data), size_bytes});
  return mirror;
}

void MirroredBackend::widen(DType dtype, const std::byte* rows, int64_t tokens, int64_t width,
                            float* out) {
  const Mirror in = mirror(rows, bytes_of(tokens * width, dtype_size(dtype)));
  const Mirror result = mirror(out, bytes_of(tokens * width, sizeof(float)));
  device_->widen(dtype, in.data(), tokens, width, result.floats());
  fetch(out, result);
}

void MirroredBackend::widen_places(DType dtype, const std::byte* rows,
                                   std::span<const int32_t> places, int64_t width, float* out) {
  const int64_t count = *std::ranges::max_element(places) + 1;
  const Mirror in = mirror(rows, bytes_of(count * width, dtype_size(dtype)));
  const Mirror result =
      mirror(out, bytes_of(static_cast<int64_t>(places.size()) * width, sizeof(float)));
  device_->widen_places(dtype, in.data(), places, width, result.floats());
  fetch(out, result);
}

void MirroredBackend::rms_norm(const float* x, const float* weight, float epsilon, int64_t tokens,
                               int64_t width, DType out_dtype, std::byte* out) {
  const Mirror in = mirror(x, bytes_of(tokens * width, sizeof(float)));
  const Mirror scale = mirror(weight, bytes_of(width, sizeof(float)));
  const Mirror result = mirror(out, bytes_of(tokens * width, dtype_size(out_dtype)));
  device_->rms_norm(in.floats(), scale.floats(), epsilon, tokens, width, out_dtype, result.data());
  fetch(out, result);
}

void MirroredBackend::silu_multiply(const float* a, const float* b, int64_t tokens, int64_t width,
                                    DType out_dtype, std::byte* out) {
  const Mirror first = mirror(a, bytes_of(tokens * width, sizeof(float)));
  const Mirror second = mirror(b, bytes_of(tokens * width, sizeof(float)));
  const Mirror result = mirror(out, bytes_of(tokens * width, dtype_size(out_dtype)));
  device_->silu_multiply(first.floats(), second.floats(), tokens, width, out_dtype, result.data());
  fetch(out, result);
}

namespace {

/// Passes on the leases of a feed with their runs moved to device memory.
class MirroredFeed : public WeightFeed {
 public:
  MirroredFeed(WeightFeed& feed, Backend& device) : feed_(feed), device_(device) {}

  bool can_hold_rest() const override { return feed_.can_hold_rest(); }
  bool next(Lease& lease) override {
    lease.release();
    host_.release();
    if (!feed_.next(host_)) return false;
    std::vector<WeightRun>& runs = runs_.emplace_back(host_.runs().begin(), host_.runs().end());
    for (WeightRun& run : runs) {
      const size_t size = bytes_of(run.rows, run.row_stride_bytes) + kReadableTail;
      Buffer& copy = copies_.emplace_back(device_.allocate(size, "test"));
      device_.upload(copy.data(), {run.data, size - kReadableTail});
      run.data = copy.data();
    }
    lease = Lease(nullptr, 0, runs);
    return true;
  }

 private:
  WeightFeed& feed_;
  Backend& device_;
  Lease host_;
  std::deque<std::vector<WeightRun>> runs_;  // of all leases, which may be held
  std::vector<Buffer> copies_;
};

}  // namespace

template <typename Product>
void MirroredBackend::multiply(const MatmulArgs& args, WeightFeed& weights, Product product) {
  const Mirror x = mirror(args.x, bytes_of(args.tokens, args.x_stride_bytes));
  std::vector<MatrixOutput> outputs(args.outputs.begin(), args.outputs.end());
  std::vector<Mirror> results;
  std::vector<Mirror> biases;
  for (MatrixOutput& output : outputs) {
    const int64_t floats = (args.tokens - 1) * output.stride + output.rows;
    results.push_back(mirror(output.out, bytes_of(floats, sizeof(float))));
    output.out = results.back().floats();
    if (output.bias == nullptr) continue;
    biases.push_back(mirror(output.bias, bytes_of(output.rows, sizeof(float))));
    output.bias = biases.back().floats();
  }
  MatmulArgs mirrored = args;
  mirrored.x = x.data();
  mirrored.outputs = outputs;
  MirroredFeed feed(weights, *device_);
  product(mirrored, feed);
  for (size_t i = 0; i < results.size(); ++i) fetch(args.outputs[i].out, results[i]);
}

void MirroredBackend::matmul(const MatmulArgs& args, WeightFeed& weights) {
  multiply(args, weights,
           [&](const MatmulArgs& own, WeightFeed& feed) { device_->matmul(own, feed); });
}

void MirroredBackend::gated_matmul(const MatmulArgs& args, WeightFeed& weights, std::byte* out) {
  const Mirror result =
      mirror(out, bytes_of(args.tokens * args.outputs[0].rows, dtype_size(args.dtype)));
  multiply(args, weights, [&](const MatmulArgs& own, WeightFeed& feed) {
    device_->gated_matmul(own, feed, result.data());
  });
  fetch(out, result);
}

void MirroredBackend::rope_and_store(const RopeStoreArgs& args) { rope_ = args; }

void MirroredBackend::attention(const AttentionArgs& args) {
  const std::optional<RopeStoreArgs> rope = std::exchange(rope_, std::nullopt);
  const Mirror qkv = mirror(args.qkv, bytes_of(args.tokens * args.qkv_stride, sizeof(float)));
  const Mirror cache = mirror(args.kv.k, cache_bytes(args.kv, args.sequences));
  const Mirror out = mirror(
      args.out, bytes_of(args.tokens * args.heads * args.head_dim, dtype_size(args.out_dtype)));
  AttentionArgs mirrored = args;
  mirrored.qkv = qkv.floats();
  mirrored.kv.k = cache.data();
  mirrored.kv.v = cache.data() + (args.kv.v - args.kv.k);
  mirrored.out = out.data();
  Mirror cos;
  Mirror sin;
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
  fetch(args.out, out);
  fetch(args.kv.k, cache);
}

bool MirroredBackend::best_tokens(const float* logits, int64_t vocab, const BestTokens& best) {
  const auto rows = static_cast<int64_t>(best.log_sums.size());
  const Mirror mirrored = mirror(logits, bytes_of(rows * vocab, sizeof(float)));
  return device_->best_tokens(mirrored.floats(), vocab, best);
}

}  // namespace headrace::testing
