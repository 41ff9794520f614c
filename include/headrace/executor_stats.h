#pragma once

#include <cstdint>
#include <vector>

namespace headrace {

/// Blocks of the KV cache.
struct KvCacheStats {
  int64_t max_blocks = 0;
  int64_t free_blocks = 0;  // those that prefix reuse only remembers are free
  int64_t used_blocks = 0;  // held by sequences
  int64_t tokens_per_block = 0;
  int64_t reused_blocks = 0;  // found again instead of computed, since the start
};

/// One pass of the executor.
struct IterationStats {
  int64_t iteration = 0;     // counts from 0
  int64_t timestamp_us = 0;  // wall-clock end of it, microseconds since 1970
  double latency_ms = 0;     // of the pass and all around it
  double scheduling_ms = 0;  // of that, what was not the model's forward
  int64_t max_active_requests = 0;
  int64_t active_requests = 0;       // being served after the pass
  int64_t queued_requests = 0;       // waiting after the pass
  int64_t new_requests = 0;          // admitted by this pass
  int64_t completed_requests = 0;    // ended by this pass
  int64_t scheduled_sequences = 0;   // in the pass
  int64_t context_sequences = 0;     // of these, with prompt rows
  int64_t generation_sequences = 0;  // of these, with one row that decodes
  int64_t paused_sequences = 0;      // preempted since the pass before: they will be computed again
  int64_t context_tokens = 0;        // prompt rows
  int64_t generated_tokens = 0;
  uint64_t streamed_bytes = 0;  // weights that came over the link
  double gpu_weights_percent = 0;
  KvCacheStats kv_cache = {};
};

/// How far a request has come.
enum class RequestStage {
  kQueued,
  kContextInProgress,
  kGenerationInProgress,
  kGenerationComplete,
};

/// One request in one pass. Of several sequences, the sums.
struct RequestStats {
  uint64_t request_id = 0;
  RequestStage stage = RequestStage::kQueued;
  int64_t context_position = 0;  // prompt positions computed
  int64_t generated_tokens = 0;
  bool scheduled = false;     // it took part in this pass
  bool paused = false;        // preempted, not yet admitted again
  int64_t preemptions = 0;    // so far
  int64_t reused_blocks = 0;  // prompt blocks found again
};

struct RequestStatsOfIteration {
  int64_t iteration = 0;
  std::vector<RequestStats> requests = {};
};

}  // namespace headrace
