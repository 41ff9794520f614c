#pragma once

#include <algorithm>
#include <vector>

#include "kv/kv_cache.h"
#include "tests/kernels/kernel_cases.h"

namespace headrace::testing {

struct Heads {
  int64_t heads;
  int64_t kv_heads;
  int64_t head_dim;
  int64_t width() const { return (heads + 2 * kv_heads) * head_dim; }
};

/// Sequences of given lengths whose qkv rows are known, run through rope_and_store and attention in
/// passes of any chunk size.
class AttentionProblem {
 public:
  AttentionProblem(const Heads& heads, DType dtype, std::vector<int64_t> lengths, Numbers numbers,
                   DType out_dtype = kOutDType)
      : heads_(heads), dtype_(dtype), out_dtype_(out_dtype), lengths_(std::move(lengths)) {
    for (const int64_t length : lengths_) {
      const auto rows = static_cast<size_t>(length);
      qkv_.push_back(numbers.floats(rows * static_cast<size_t>(heads.width())));
      cos_.push_back(numbers.floats(rows * static_cast<size_t>(heads.head_dim / 2)));
      sin_.push_back(numbers.floats(rows * static_cast<size_t>(heads.head_dim / 2)));
    }
  }

  /// Attention outputs of all rows, sequence by sequence. Every pass takes up to `chunk` rows of
  /// each sequence.
  std::vector<std::byte> run(Backend& backend, int64_t block_tokens, int64_t chunk) const {
    const KvShape shape{.layers = 3,
                        .kv_heads = heads_.kv_heads,
                        .head_dim = heads_.head_dim,
                        .block_tokens = block_tokens,
                        .dtype = dtype_};
    int64_t blocks = 3;
    for (const int64_t length : lengths_) blocks += shape.blocks_for(length);
    const size_t bytes = static_cast<size_t>(blocks) * shape.block_bytes();
    KvCache cache(shape, reserve_host(bytes, "test"));
    EXPECT_TRUE(cache.resize(blocks));
    std::fill_n(cache.block(0), bytes, std::byte{0xff});  // NaN
    std::vector<std::vector<int32_t>> tables(lengths_.size());
    std::vector<std::vector<std::byte>> outs(lengths_.size());
    const int64_t longest = *std::max_element(lengths_.begin(), lengths_.end());
    for (int64_t position = 0; position < longest; position += chunk) {
      run_pass(backend, cache, position, chunk, tables, outs);
    }
    std::vector<std::byte> all;
    for (const auto& out : outs) all.insert(all.end(), out.begin(), out.end());
    return all;
  }

  const Heads& heads() const { return heads_; }
  const std::vector<float>& qkv(size_t sequence) const { return qkv_[sequence]; }
  const std::vector<float>& cos(size_t sequence) const { return cos_[sequence]; }
  const std::vector<float>& sin(size_t sequence) const { return sin_[sequence]; }
  float scale() const { return 1.0f / std::sqrt(static_cast<float>(heads_.head_dim)); }
  DType out_dtype() const { return out_dtype_; }
  static constexpr DType kOutDType = DType::kFloat32;

 private:
  void run_pass(Backend& backend, KvCache& cache, int64_t position, int64_t chunk,
                std::vector<std::vector<int32_t>>& tables,
                std::vector<std::vector<std::byte>>& outs) const {
    std::vector<SequenceRows> sequences;
    std::vector<float> qkv;
    std::vector<float> cos;
    std::vector<float> sin;
    std::vector<size_t> owners;
    int64_t tokens = 0;
    for (size_t s = 0; s < lengths_.size(); ++s) {
      const int64_t rows = std::min(chunk, lengths_[s] - position);
      if (rows <= 0) continue;
      EXPECT_TRUE(cache.grow(tables[s], position + rows));
      sequences.push_back({tokens, rows, position, tables[s]});
      append(qkv, qkv_[s], position, rows, heads_.width());
      append(cos, cos_[s], position, rows, heads_.head_dim / 2);
      append(sin, sin_[s], position, rows, heads_.head_dim / 2);
      owners.push_back(s);
      tokens += rows;
    }
    backend.begin_pass(sequences);
    backend.rope_and_store({.tokens = tokens,
                            .heads = heads_.heads,
                            .kv_heads = heads_.kv_heads,
                            .head_dim = heads_.head_dim,
                            .qkv = qkv.data(),
                            .cos = cos.data(),
                            .sin = sin.data(),
                            .sequences = sequences,
                            .kv = cache.layer(1)});
    const auto row_bytes =
        static_cast<size_t>(heads_.heads * heads_.head_dim) * dtype_size(out_dtype_);
    std::vector<std::byte> out(static_cast<size_t>(tokens) * row_bytes);
    backend.attention({.tokens = tokens,
                       .heads = heads_.heads,
                       .kv_heads = heads_.kv_heads,
                       .head_dim = heads_.head_dim,
                       .scale = scale(),
                       .qkv = qkv.data(),
                       .qkv_stride = heads_.width(),
                       .sequences = sequences,
                       .kv = cache.layer(1),
                       .out_dtype = out_dtype_,
                       .out = out.data()});
    for (size_t i = 0; i < sequences.size(); ++i) {
      const auto begin = out.begin() + static_cast<std::ptrdiff_t>(
                                           static_cast<size_t>(sequences[i].row_begin) * row_bytes);
      outs[owners[i]].insert(
          outs[owners[i]].end(), begin,
          begin + static_cast<std::ptrdiff_t>(static_cast<size_t>(sequences[i].rows) * row_bytes));
    }
  }

  static void append(std::vector<float>& to, const std::vector<float>& from, int64_t row,
                     int64_t rows, int64_t width) {
    to.insert(to.end(), from.begin() + row * width, from.begin() + (row + rows) * width);
  }

  Heads heads_;
  DType dtype_;
  DType out_dtype_;
  std::vector<int64_t> lengths_;
  std::vector<std::vector<float>> qkv_;
  std::vector<std::vector<float>> cos_;
  std::vector<std::vector<float>> sin_;
};

}  // namespace headrace::testing
