#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "headrace/log_level.h"

namespace headrace {

/// Which waiting requests are admitted while others run.
enum class CapacityPolicy {
  kGuaranteedNoEvict,  // those whose prompt and max_new_tokens are sure to find room in the KV
                       // cache
  kMaxUtilization,  // those whose next step fits; when room runs out, the last ones are preempted
                    // and computed again later
};

struct KvCacheOptions {
  static constexpr double kDefaultFraction = 0.9;
  std::optional<int64_t> max_tokens = {};  // positions, or fewer by free_memory_fraction
  /// Of the memory that is free beside the weights, whatever share of them is there; no more than
  /// max_batch_size sequences can use is taken. Nothing: kDefaultFraction without max_tokens, all
  /// of it with.
  std::optional<double> free_memory_fraction = {};
  bool enable_block_reuse = false;  // prompts that begin alike share what was computed
};

/// One sequence's step, as a logits processor sees it. All views end with the call.
struct LogitsStep {
  uint64_t request_id = 0;
  std::optional<uint64_t> client_id = {};
  int32_t sequence_index = 0;                             // which of num_return_sequences
  std::span<float> logits = {};                           // [beams, vocab_size], to be changed
  std::span<const std::span<const int32_t>> tokens = {};  // by beam: prompt and generated
};

/// Changes logits before a token is chosen from them. Called on the executor's thread, which waits;
/// an exception ends the request with an error. It may cancel() and enqueue(); calls that wait for
/// the executor throw, and it may not destroy it. It sees the steps of a beam search that was
/// preempted (kMaxUtilization) again, and should do the same to them.
using LogitsProcessor = std::function<void(const LogitsStep&)>;
/// The same for all sequences of a pass that ask for it; an exception ends all of their requests.
using BatchedLogitsProcessor = std::function<void(std::span<const LogitsStep>)>;

/// Receives what the executor logs, from any of its threads, one call at a time.
using LogFunction = std::function<void(LogLevel, std::string_view line)>;

struct ExecutorOptions {
  std::string engine_dir = {};  // the engine's folder
  std::string device = "auto";  // auto, cpu or cuda
  int threads = 0;              // of the CPU; 0: all processors

  double gpu_weights_percent = 1.0;  // share of the weights kept in fast memory, 0 to 1
  std::optional<uint64_t> gpu_weights_bytes = {};  // the same in bytes; the percentage is left out
  bool automatic_gpu_weights = false;  // as many as memory allows; both above are left out
  uint64_t memory_limit_bytes = 0;     // of fast memory that may be taken; 0: what is free
  int32_t ring_requests = 0;           // slots of the ring of streamed weights; 0: planned
  std::string profile_path = {};       // machine profile; empty: measured once and cached
  /// Threads that multiply in host memory while a GPU streams, 0: none; nothing: all processors but
  /// one.
  std::optional<int> host_threads = {};

  int64_t max_batch_size = 0;  // sequences in a pass, each of up to max_beam_width beams, or as
                               // many more without; 0: the engine's
  int64_t max_num_tokens = 0;  // token rows of a pass; 0: the engine's, less on the CPU
  int64_t max_beam_width = 1;  // up to the engine's; requests with more beams are refused
  std::optional<int64_t> max_queue_size = {};  // requests that wait; nothing: no limit
  CapacityPolicy capacity_policy = CapacityPolicy::kGuaranteedNoEvict;
  KvCacheOptions kv_cache = {};
  bool enable_chunked_context = true;  // prompts are cut to fill passes; without, only those that
                                       // no pass holds whole
  bool normalize_log_probs = true;     // of beams: sums are divided by length
  int64_t iteration_stats_max = 1000;  // passes whose stats are kept until fetched; 0: none
  int64_t request_stats_max = 0;       // the same of requests' stats
  std::map<std::string, LogitsProcessor> logits_processors = {};  // by name
  BatchedLogitsProcessor batched_logits_processor = {};           // for kBatchedLogitsProcessor
  LogFunction log = {};                                           // nothing: nothing is logged
};

}  // namespace headrace
