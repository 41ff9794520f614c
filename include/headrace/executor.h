#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "headrace/error.h"
#include "headrace/executor_options.h"
#include "headrace/executor_stats.h"
#include "headrace/request.h"
#include "headrace/response.h"

namespace headrace {

/// Serves many requests at once: every pass over the weights moves each of them on, and requests
/// come and go between passes. What a request gets does not depend on the others (with the engine's
/// canonical_rows = all; docs/numerics.md says what holds otherwise).
///
/// Thread-safe. One thread of its own runs the passes; it sleeps when there is nothing to do.
/// Whatever is wrong with a request ends that request with an error response; the executor goes on.
/// After shutdown() every call but can_enqueue(), shutdown() and what tells of the engine throws
/// Error{kInvalidArgument} ("Shutdown called").
class Executor {
 public:
  using Milliseconds = std::chrono::milliseconds;

  /// Opens the engine and loads the weights. Throws what cannot be honoured, with what would work;
  /// a path that is not there is Error{kNotFound} "... File does not exist ...".
  explicit Executor(const ExecutorOptions& options);
  /// Shuts down. No other thread may be in a call that has yet to begin waiting.
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  /// Queues a request and returns its id at once: 1, 2, ... What is wrong with it, and a full
  /// queue, is told by its response.
  uint64_t enqueue(Request request);
  /// The same for several, in one step.
  std::vector<uint64_t> enqueue(std::vector<Request> requests);

  /// Takes the responses that are ready, of all requests, waiting until there is one. Empty after
  /// `timeout`; without one it waits forever.
  std::vector<Response> await_responses(std::optional<Milliseconds> timeout = {});
  /// The same for one request. If its last response was taken before (or the id was never given),
  /// one response whose error is "ReqId <id> has already been processed and was terminated.".
  std::vector<Response> await_responses(uint64_t request_id,
                                        std::optional<Milliseconds> timeout = {});
  /// The same for each of several, in their order; `timeout` is for all of them together.
  std::vector<std::vector<Response>> await_responses(std::span<const uint64_t> request_ids,
                                                     std::optional<Milliseconds> timeout = {});
  /// Responses that can be taken without waiting: of one request, or of all.
  int64_t responses_ready(std::optional<uint64_t> request_id = {}) const;

  /// Ends a request before its next token: its last response holds what there is and
  /// FinishReason::kCancelled. Nothing happens if it has ended already.
  void cancel(uint64_t request_id);

  /// Whether enqueue() is still open.
  bool can_enqueue() const;

  /// Ends everything: requests in flight end with an error response, which those who wait for them
  /// still get. Returns when the thread has ended and nobody waits any more.
  void shutdown();

  /// Changes the share of the weights in fast memory between two passes, and returns when it has
  /// been done. Requests in flight go on and get the same tokens (docs/numerics.md). Unless
  /// kv_cache.max_tokens says how large it is, the KV cache grows into the memory that a smaller
  /// share frees, and gives it back to a larger one, as far as the requests that are here let it.
  /// Throws what cannot be honoured; then the old share stays.
  void set_gpu_weights_percent(double percent);
  double gpu_weights_percent() const;

  /// Stats of the passes since the last call, oldest first, as many as the options keep.
  std::vector<IterationStats> latest_iteration_stats();
  std::vector<RequestStatsOfIteration> latest_request_stats();

  /// Of the engine's model.
  int64_t vocab_size() const;
  /// Tokens of prompt and output that one request can have: the engine's limit, or that of the KV
  /// cache beside the least weights.
  int64_t max_sequence_tokens() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace headrace
