#pragma once

#include <cstddef>
#include <cstdint>

#include "checkpoint/model_config.h"
#include "device/buffer.h"
#include "kernels/backend.h"

namespace headrace {

/// The largest pass that a model is prepared for.
struct ModelLimits {
  int64_t max_tokens = 512;    // token rows of one pass
  int64_t max_logit_rows = 1;  // rows of one pass whose logits are wanted
  int64_t max_sequences = 1;   // sequences in one pass
  int64_t max_context = 0;     // positions of one sequence
  int64_t canonical_rows = 0;  // kernels/backend.h: PassLimits
};

/// What a backend has to be prepared for.
PassLimits pass_limits(const ModelConfig& config, const ModelLimits& limits);

/// The activations of one pass, carved out of one buffer of fast memory. T: token rows, L: logit
/// rows.
struct Workspace {
  std::byte* embedded = nullptr;   // [T, hidden] engine dtype: rows of the embedding table
  float* residual = nullptr;       // [T, hidden]
  std::byte* normed = nullptr;     // [max(T, L), hidden] engine dtype
  float* qkv = nullptr;            // [T, qkv_size]
  std::byte* attended = nullptr;   // [T, q_size] engine dtype
  float* fc = nullptr;             // [T, intermediate]
  float* gate = nullptr;           // [T, intermediate]
  std::byte* activated = nullptr;  // [T, intermediate] engine dtype
  float* cos = nullptr;            // [T, head_size / 2]
  float* sin = nullptr;            // [T, head_size / 2]
  float* angles = nullptr;  // [min(T, max_context), head_size / 2]: cos or sin, each row once
  float* logits = nullptr;  // [L, vocab]
  size_t size_bytes = 0;    // of all of them

  /// Lays the activations out from `memory` on, each 64-byte aligned; null only counts the bytes.
  static Workspace carve(const ModelConfig& config, const ModelLimits& limits, std::byte* memory);
};

}  // namespace headrace
