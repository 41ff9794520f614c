#include "headrace/kv_flags.h"

#include <string>

#include "base/error.h"

namespace headrace::app {

void add_kv_flags(CLI::App& command, KvFlags& flags) {
  command.add_option("--max_attention_window_size", flags.attention_windows,
                     "Positions that attention sees: all of a sequence here, so that less is an "
                     "error");
  add_kv_memory_flag(command, flags);
  command.add_flag("--kv_cache_enable_block_reuse", flags.block_reuse,
                   "Prompts that begin alike share what was computed, also by earlier batches or "
                   "lines");
  const std::string always = "Accepted: long prompts always go in chunks";
  command.add_flag("--enable_chunked_context", always);
}

void add_kv_memory_flag(CLI::App& command, KvFlags& flags) {
  command.add_option("--kv_cache_free_gpu_memory_fraction", flags.free_memory_fraction,
                     "Largest share of the memory beside the weights that the KV cache takes "
                     "(default: what the batch needs)");
}

void apply(const KvFlags& flags, SessionLimits& limits) {
  limits.reuse_prefixes = flags.block_reuse;
  if (!flags.free_memory_fraction) return;
  const double fraction = *flags.free_memory_fraction;
  if (!(fraction > 0 && fraction <= 1)) {
    fail(ErrorCode::kInvalidArgument,
         "--kv_cache_free_gpu_memory_fraction {}: use more than 0.0, up to 1.0", fraction);
  }
  limits.kv_memory_fraction = fraction;
}

void check_attention_windows(const KvFlags& flags, int64_t sequence_tokens) {
  for (const int64_t window : flags.attention_windows) {
    if (window >= sequence_tokens) continue;
    fail(ErrorCode::kUnsupported,
         "--max_attention_window_size {}: attention sees all of a sequence, here up to {} tokens: "
         "use as many or more, or leave it out",
         window, sequence_tokens);
  }
}

}  // namespace headrace::app
