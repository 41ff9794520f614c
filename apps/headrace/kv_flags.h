#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "executor/session.h"
#include "headrace/app.h"

namespace headrace::app {

/// Flags of the KV cache; names are those of TensorRT-LLM's run.py.
struct KvFlags {
  std::vector<int64_t> attention_windows;      // empty: all positions
  std::optional<double> free_memory_fraction;  // nothing: as much as the batch needs
  bool block_reuse = false;
};

/// Registers them. `flags` has to outlive the command.
void add_kv_flags(CLI::App& command, KvFlags& flags);

/// --kv_cache_free_gpu_memory_fraction alone, which benchmark.py has.
void add_kv_memory_flag(CLI::App& command, KvFlags& flags);

/// Sets what the flags ask for in `limits`. Error{kInvalidArgument} naming the flag for values that
/// cannot be.
void apply(const KvFlags& flags, SessionLimits& limits);

/// Error{kUnsupported} if a window is shorter than a sequence may become: attention sees all of it.
void check_attention_windows(const KvFlags& flags, int64_t sequence_tokens);

}  // namespace headrace::app
