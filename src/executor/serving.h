#pragma once

#include <cstdint>
#include <exception>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/context.h"
#include "executor/active_request.h"
#include "executor/batch.h"
#include "executor/inbox.h"
#include "executor/response_box.h"
#include "executor/session.h"
#include "executor/stats_history.h"
#include "headrace/executor_options.h"
#include "headrace/executor_stats.h"

namespace headrace {

/// Where the executor's thread leaves what others fetch. All are thread-safe.
struct ServingOutputs {
  ResponseBox& responses;
  StatsHistory<IterationStats>& iterations;
  StatsHistory<RequestStatsOfIteration>& requests;
};

/// The requests of an executor while they are served: brings them into the batch, runs passes, and
/// turns what comes of them into responses. An error that concerns one request ends that one; one
/// of the stream or the backend ends those of the pass, and the weights are loaded again. Confined
/// to one thread.
class Serving : private BatchEvents {
 public:
  /// All of it outlives the object.
  Serving(const ExecutorOptions& options, Session& session, const ServingOutputs& outputs,
          Context& context);
  ~Serving() override;
  Serving(const Serving&) = delete;
  Serving& operator=(const Serving&) = delete;

  void add(ArrivedRequest arrived);
  void cancel(uint64_t request_id);
  /// Throws what cannot be honoured; the old share stays. The KV cache gets what memory the new one
  /// leaves, but never less than what the requests need. They end with an error if what the cache
  /// holds cannot be moved.
  void set_percent(double percent);

  /// Runs a pass.
  void step();
  /// Ends all requests with an error.
  void fail_all(const std::string& message);

  bool busy() const { return !requests_.empty(); }
  /// Requests of which nothing has been admitted yet.
  int64_t queued() const { return static_cast<int64_t>(requests_.size()) - started_; }

 private:
  void on_context_logits(Sequence& sequence, int64_t position,
                         std::span<const float> logits) override;
  void on_logits(Sequence& sequence, std::span<float> logits) override;
  void on_batched_logits(std::span<Sequence* const> sequences, std::span<float> logits) override;
  bool on_token(Sequence& sequence) override;
  void on_failure(Sequence& sequence, std::exception_ptr error) override;

  void shrink_kv(int64_t blocks);
  void grow_kv(int64_t blocks);
  bool reload_weights();
  void run_pass();
  void expire(int64_t now_ns);
  void end(ActiveRequest& request, FinishReason reason);
  void fail(ActiveRequest& request, const std::string& message);
  void leave_batch(const ActiveRequest& request);
  void note_admitted();
  void retire();
  void record(int64_t begin_ns);
  void record_requests();
  KvCacheStats kv_stats() const;
  ActiveRequest& request_of(const Sequence& sequence);
  /// What a logits processor is shown of a sequence, and the tokens that it points at.
  struct ShownStep {
    std::vector<std::vector<int32_t>> beams = {};       // prompt and generated tokens
    std::vector<std::span<const int32_t>> tokens = {};  // of beams, or of the sequence
    LogitsStep step = {};
  };
  ShownStep show(const Sequence& sequence, std::span<float> logits);

  const ExecutorOptions& options_;
  Session& session_;
  const ServingOutputs outputs_;
  Context& context_;
  Batch batch_;
  std::map<uint64_t, std::unique_ptr<ActiveRequest>> requests_;
  std::set<std::pair<int64_t, uint64_t>> deadlines_;  // (when, whose)
  int64_t started_ = 0;                               // of requests_
  bool reload_ = false;  // a pass has thrown: the weights are to be loaded before the next

  // The pass.
  std::vector<Response> responses_;
  std::vector<uint64_t> over_;  // requests that have ended and are to be forgotten
  IterationStats stats_;
  int64_t recorded_preempted_ = 0;  // of the scheduler's, those that have been recorded
};

}  // namespace headrace
