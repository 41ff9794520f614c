#include "model/forward.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "base/error.h"
#include "base/thread_pool.h"
#include "base/trace.h"

namespace headrace {
namespace {

constexpr size_t kMaxGroupMatrices = 4;
constexpr int64_t kRowsAtATime = 256;  // of cosines and sines, that a thread copies
constexpr int32_t kNoLayer = -1;
constexpr size_t kFewRows = 64;  // among which nobody looks for equal ones

/// Numbers of rows, each once.
struct NumberedRows {
  std::vector<int32_t> numbers;
  std::vector<int32_t> places;  // of each token row's among them; empty: they are in order
};

/// Numbers outside of [0, end) are taken as they come.
NumberedRows each_once(std::span<const int32_t> numbers, int64_t end) {
  NumberedRows rows;
  if (numbers.size() <= kFewRows) {
    rows.numbers.assign(numbers.begin(), numbers.end());
    return rows;
  }
  std::vector<int32_t> known(static_cast<size_t>(end), -1);
  for (const int32_t number : numbers) {
    const auto next = static_cast<int32_t>(rows.numbers.size());
    const bool countable = 0 <= number && number < end;
    int32_t place = countable ? known[static_cast<size_t>(number)] : -1;
    if (place < 0) {
      place = next;
      rows.numbers.push_back(number);
      if (countable) known[static_cast<size_t>(number)] = place;
    }
    rows.places.push_back(place);
  }
  if (rows.numbers.size() == numbers.size()) rows.places.clear();  // none repeats
  return rows;
}

Role bias_role(Role role) {
  switch (role) {
    case Role::kQkv:
      return Role::kQkvBias;
    case Role::kDense:
      return Role::kDenseBias;
    case Role::kFc:
      return Role::kFcBias;
    case Role::kGate:
      return Role::kGateBias;
    case Role::kProj:
      return Role::kProjBias;
    default:
      return role;  // no bias: never among the vectors
  }
}

struct MatrixShape {
  int64_t rows;
  int64_t k;
};

MatrixShape matrix_shape(const ModelConfig& config, Role role) {
  switch (role) {
    case Role::kQkv:
      return {config.qkv_size(), config.hidden_size};
    case Role::kDense:
      return {config.hidden_size, config.q_size()};
    case Role::kFc:
    case Role::kGate:
      return {config.intermediate_size, config.hidden_size};
    case Role::kProj:
      return {config.hidden_size, config.intermediate_size};
    case Role::kLmHead:
      return {config.vocab_size, config.hidden_size};
    default:
      HR_CHECK(false);
  }
}

}  // namespace

const float* Forward::vector(int32_t layer, Role role) const {
  const auto found = model_.vectors_.find({layer, role});
  return found == model_.vectors_.end() ? nullptr : found->second;
}

const float* Forward::bias(int32_t layer, Role role) const {
  return vector(layer, bias_role(role));
}

void Forward::embed() {
  const int64_t width = config().hidden_size;
  const size_t row_bytes = static_cast<size_t>(width) * dtype_size(config().dtype);
  const NumberedRows rows = each_once(input_.ids, config().vocab_size);
  const std::span ids = rows.numbers;
  Backend& backend = model_.backend_;
  backend.upload_rows(space().embedded, row_bytes, static_cast<int64_t>(ids.size()),
                      [&](int64_t first, std::span<std::byte> to) {
                        embedding_.gather(
                            ids.subspan(static_cast<size_t>(first), to.size() / row_bytes),
                            to.data());
                      });
  if (rows.places.empty()) {
    backend.widen(config().dtype, space().embedded, tokens(), width, space().residual);
  } else {
    backend.widen_places(config().dtype, space().embedded, rows.places, width, space().residual);
  }
}

void Forward::prepare_rope() {
  std::vector<int32_t> positions(static_cast<size_t>(tokens()));
  int64_t end = 0;
  for (const SequenceRows& sequence : input_.sequences) {
    std::iota(positions.begin() + sequence.row_begin,
              positions.begin() + sequence.row_begin + sequence.rows,
              static_cast<int32_t>(sequence.position));
    end = std::max(end, sequence.position + sequence.rows);
  }
  RopeTable& table = model_.rope_;
  ThreadPool& pool = model_.context_.pool;
  table.cover(end, pool);
  HR_CHECK(end <= model_.limits_.max_context);
  const int64_t width = config().head_size / 2;
  const size_t row_bytes = static_cast<size_t>(width) * sizeof(float);
  const NumberedRows rows = each_once(positions, end);
  const bool in_order = rows.places.empty();
  const auto upload = [&](float* out, auto&& row_of) {
    const auto write = [&](int64_t first, std::span<std::byte> staged) {
      const auto count = static_cast<int64_t>(staged.size() / row_bytes);
      pool.parallel_for(count, kRowsAtATime, [&](int64_t row, int64_t last) {
        for (; row < last; ++row) {
          const std::span<const float> values =
              row_of(rows.numbers[static_cast<size_t>(first + row)]);
          std::memcpy(staged.data() + static_cast<size_t>(row) * row_bytes, values.data(),
                      row_bytes);
        }
      });
    };
    auto* const to = reinterpret_cast<std::byte*>(in_order ? out : space().angles);
    model_.backend_.upload_rows(to, row_bytes, static_cast<int64_t>(rows.numbers.size()), write);
    if (in_order) return;
    model_.backend_.widen_places(DType::kFloat32, to, rows.places, width, out);
  };
  upload(space().cos, [&](int64_t position) { return table.cos(position); });
  upload(space().sin, [&](int64_t position) { return table.sin(position); });
}

void Forward::norm(int32_t layer, Role role) {
  model_.backend_.rms_norm(space().residual, vector(layer, role),
                           static_cast<float>(config().norm_epsilon), tokens(),
                           config().hidden_size, config().dtype, space().normed);
}

void Forward::matmul(int32_t layer, const std::byte* x, std::initializer_list<Target> targets) {
  multiply(layer, x, tokens(), targets);
}

void Forward::gated_matmul(int32_t layer, const std::byte* x) {
  multiply(layer, x, tokens(),
           {{.role = Role::kFc, .out = space().fc}, {.role = Role::kGate, .out = space().gate}},
           space().activated);
}

/// With gated_out, silu_multiply() of the products goes there.
void Forward::multiply(int32_t layer, const std::byte* x, int64_t rows,
                       std::initializer_list<Target> targets, std::byte* gated_out) {
  std::array<MatrixOutput, kMaxGroupMatrices> outputs;
  HR_CHECK(targets.size() <= outputs.size());
  size_t count = 0;
  int64_t k = 0;
  int64_t weight_rows = 0;
  for (const Target& target : targets) {
    const MatrixShape shape = matrix_shape(config(), target.role);
    outputs[count++] = {.rows = shape.rows,
                        .out = target.out,
                        .stride = shape.rows,
                        .bias = bias(layer, target.role),
                        .accumulate = target.accumulate};
    k = shape.k;
    weight_rows += shape.rows;
  }
  const size_t row_bytes = static_cast<size_t>(k) * dtype_size(config().dtype);
  TraceSpan span(model_.context_.trace, role_name(targets.begin()->role), "matmul");
  span.set_bytes(static_cast<uint64_t>(weight_rows) * row_bytes);
  const MatmulArgs args = {.dtype = config().dtype,
                           .tokens = rows,
                           .pass_tokens = tokens(),
                           .k = k,
                           .x = x,
                           .x_stride_bytes = row_bytes,
                           .outputs = std::span(outputs).first(count)};
  WeightFeed& weights = weights_.group(next_group_++);
  if (gated_out == nullptr) {
    model_.backend_.matmul(args, weights);
  } else {
    model_.backend_.gated_matmul(args, weights, gated_out);
  }
}

void Forward::rope_and_store(int32_t layer) {
  model_.backend_.rope_and_store({.tokens = tokens(),
                                  .heads = config().num_attention_heads,
                                  .kv_heads = config().num_key_value_heads,
                                  .head_dim = config().head_size,
                                  .qkv = space().qkv,
                                  .cos = space().cos,
                                  .sin = space().sin,
                                  .sequences = input_.sequences,
                                  .kv = kv_.layer(layer)});
}

void Forward::attention(int32_t layer) {
  TraceSpan span(model_.context_.trace, "attention", "attention");
  model_.backend_.attention({.tokens = tokens(),
                             .heads = config().num_attention_heads,
                             .kv_heads = config().num_key_value_heads,
                             .head_dim = config().head_size,
                             .scale = 1.0f / std::sqrt(static_cast<float>(config().head_size)),
                             .qkv = space().qkv,
                             .qkv_stride = config().qkv_size(),
                             .sequences = input_.sequences,
                             .kv = kv_.layer(layer),
                             .out_dtype = config().dtype,
                             .out = space().attended});
}

void Forward::logits() {
  const std::span<const int32_t> rows = input_.logit_rows;
  if (rows.empty()) return;
  const int64_t hidden = config().hidden_size;
  const size_t row_bytes = static_cast<size_t>(hidden) * dtype_size(config().dtype);
  for (size_t begin = 0; begin < rows.size();) {  // one norm for each stretch of adjacent rows
    size_t end = begin + 1;
    while (end < rows.size() && rows[end] == rows[end - 1] + 1) ++end;
    model_.backend_.rms_norm(
        space().residual + rows[begin] * hidden, vector(kNoLayer, Role::kFinalNorm),
        static_cast<float>(config().norm_epsilon), static_cast<int64_t>(end - begin), hidden,
        config().dtype, space().normed + begin * row_bytes);
    begin = end;
  }
  multiply(kNoLayer, space().normed, static_cast<int64_t>(rows.size()),
           {{.role = Role::kLmHead, .out = space().logits}});
}

}  // namespace headrace
