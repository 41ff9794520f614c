#include "executor/executor_core.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "executor/active_request.h"
#include "executor/serving.h"

namespace headrace {
namespace {

/// Nothing, or when `timeout` has passed; a year is as good as for ever.
std::optional<ResponseBox::TimePoint> until(std::optional<ExecutorCore::Milliseconds> timeout) {
  if (!timeout) return std::nullopt;
  constexpr ExecutorCore::Milliseconds kLongest = std::chrono::hours(24 * 365);
  return std::chrono::steady_clock::now() +
         std::clamp(*timeout, ExecutorCore::Milliseconds(0), kLongest);
}

Fault fault_of(const std::exception& error) {
  const auto* const own = dynamic_cast<const Error*>(&error);
  return {.code = own == nullptr ? ErrorCode::kInternal : own->code(), .message = error.what()};
}

RequestLimits request_limits(const ExecutorOptions& options, const Session& session) {
  RequestLimits limits{.prompt = session.prompt_limits(),
                       .batched_logits_processor = options.batched_logits_processor != nullptr};
  limits.prompt.kv_blocks = session.most_kv_blocks();  // Serving knows what there is just now
  limits.prompt.kv_shrunk = false;
  for (const auto& [name, processor] : options.logits_processors) {
    limits.logits_processors.insert(name);
  }
  return limits;
}

void check_at_least(const char* name, int64_t value, int64_t least) {
  if (value >= least) return;
  fail(ErrorCode::kInvalidArgument, "[executor] {} {}: use {} or more", name, value, least);
}

void check_options(const ExecutorOptions& options) {
  check_at_least("max_batch_size", options.max_batch_size, 0);
  check_at_least("max_num_tokens", options.max_num_tokens, 0);
  check_at_least("max_beam_width", options.max_beam_width, 1);
  check_at_least("max_queue_size", options.max_queue_size.value_or(1), 1);
  check_at_least("kv_cache.max_tokens", options.kv_cache.max_tokens.value_or(1), 1);
  check_at_least("iteration_stats_max", options.iteration_stats_max, 0);
  check_at_least("request_stats_max", options.request_stats_max, 0);
  const double fraction = options.kv_cache.free_memory_fraction.value_or(1);
  if (!(fraction > 0 && fraction <= 1)) {
    fail(ErrorCode::kInvalidArgument,
         "[executor] kv_cache.free_memory_fraction {}: use more than 0.0, up to 1.0", fraction);
  }
  for (const auto& [name, processor] : options.logits_processors) {
    if (name.empty() || name == kBatchedLogitsProcessor) {
      fail(ErrorCode::kInvalidArgument,
           "[executor] a logits processor cannot have the name '{}': use another; for \"{}\" there "
           "is batched_logits_processor",
           name, kBatchedLogitsProcessor);
    }
    if (processor != nullptr) continue;
    fail(ErrorCode::kInvalidArgument,
         "[executor] the logits processor '{}' is an empty function: give one that can be called",
         name.substr(0, 80));
  }
}

}  // namespace

SessionOptions session_options(const ExecutorOptions& options) {
  check_options(options);
  SessionOptions session;
  session.engine_dir = options.engine_dir;
  session.device = options.device;
  session.budget.percent = options.gpu_weights_percent;
  if (options.gpu_weights_bytes)
    session.budget = {.percent = {}, .bytes = options.gpu_weights_bytes};
  session.automatic_budget = options.automatic_gpu_weights;
  session.memory_limit = options.memory_limit_bytes;
  session.limits.max_sequences =
      options.max_batch_size == 0 ? SessionLimits::kEnginesMost : options.max_batch_size;
  session.limits.max_beam_width = options.max_beam_width;
  session.limits.kv_tokens = options.kv_cache.max_tokens.value_or(0);
  session.limits.kv_memory_fraction = options.kv_cache.free_memory_fraction.value_or(
      options.kv_cache.max_tokens ? 0 : KvCacheOptions::kDefaultFraction);
  session.limits.reuse_prefixes = options.kv_cache.enable_block_reuse;
  session.prefill_chunk = options.max_num_tokens;
  session.ring_requests = options.ring_requests;
  session.host_threads = options.host_threads;
  session.profile_path = options.profile_path;
  return session;
}

ExecutorCore::ExecutorCore(ExecutorOptions options, const SessionOptions& session, Context& context)
    : options_(std::move(options)),
      context_(context),
      iterations_(options_.iteration_stats_max),
      requests_(options_.request_stats_max) {
  std::promise<std::optional<Fault>> opened;
  thread_ = std::thread([&] { run(session, opened); });
  const std::optional<Fault> fault = opened.get_future().get();
  if (!fault) return;
  thread_.join();
  throw Error(fault->code, fault->message);
}

/// The thread. `session` and `opened` are there until `opened` has been set.
void ExecutorCore::run(const SessionOptions& session, std::promise<std::optional<Fault>>& opened) {
  thread_id_ = std::this_thread::get_id();
  std::unique_ptr<Session> open;
  try {
    open = Session::open(session, context_);
    report_plan(*open, context_.log);
    percent_ = open->weights_percent();
    inbox_ = std::make_unique<Inbox>(request_limits(options_, *open), options_.max_queue_size,
                                     responses_);
  } catch (const std::exception& error) {
    opened.set_value(fault_of(error));
    return;
  }
  opened.set_value(std::nullopt);
  serve(*open);
}

void ExecutorCore::serve(Session& session) {
  Serving serving(options_, session,
                  {.responses = responses_, .iterations = iterations_, .requests = requests_},
                  context_);
  const auto try_to = [&](const auto& act) {
    try {
      act();
    } catch (const std::exception& error) {  // out of memory, or our bug
      serving.fail_all(error.what());
    }
  };
  bool closed = false;
  while (!closed) {
    Arrivals arrivals = inbox_->take(/*wait=*/!serving.busy());
    for (ArrivedRequest& request : arrivals.requests) {
      try_to([&] { serving.add(std::move(request)); });
    }
    for (const uint64_t id : arrivals.cancelled) try_to([&] { serving.cancel(id); });
    for (PercentChange& change : arrivals.changes) {
      try {
        serving.set_percent(change.percent);
        percent_ = change.percent;
        change.done.set_value(std::nullopt);
      } catch (const std::exception& error) {
        change.done.set_value(fault_of(error));
      }
    }
    closed = arrivals.closed;
    if (!closed && serving.busy()) try_to([&] { serving.step(); });
    inbox_->set_queued(serving.queued());
  }
  serving.fail_all("[executor] Shutdown called: the request was not finished");
}

/// A logits processor that waited for its own executor would wait for ever.
void ExecutorCore::check_may_wait(const char* call) const {
  if (std::this_thread::get_id() != thread_id_) return;
  fail(ErrorCode::kInvalidArgument,
       "[executor] {} in a logits processor, which the executor waits for: call it from another "
       "thread",
       call);
}

void ExecutorCore::shutdown() {
  check_may_wait("shutdown");
  std::call_once(shut_down_, [this] {
    inbox_->close();
    thread_.join();
    responses_.close();
  });
}

void ExecutorCore::set_gpu_weights_percent(double percent) {
  check_may_wait("set_gpu_weights_percent");
  inbox_->change(percent);
}

double ExecutorCore::gpu_weights_percent() const {
  inbox_->check_open();
  return percent_;
}

std::vector<uint64_t> ExecutorCore::enqueue(std::vector<Request> requests) {
  return inbox_->add(std::move(requests), context_.clock.now_ns());
}

std::vector<Response> ExecutorCore::await_responses(std::optional<Milliseconds> timeout) {
  check_may_wait("await_responses");
  return responses_.take_any(until(timeout));
}

std::vector<Response> ExecutorCore::await_responses(uint64_t request_id,
                                                    std::optional<Milliseconds> timeout) {
  check_may_wait("await_responses");
  return responses_.take(request_id, until(timeout));
}

std::vector<std::vector<Response>> ExecutorCore::await_responses(
    std::span<const uint64_t> request_ids, std::optional<Milliseconds> timeout) {
  check_may_wait("await_responses");
  return responses_.take_each(request_ids, until(timeout));
}

std::vector<IterationStats> ExecutorCore::latest_iteration_stats() {
  inbox_->check_open();
  return iterations_.take();
}

std::vector<RequestStatsOfIteration> ExecutorCore::latest_request_stats() {
  inbox_->check_open();
  return requests_.take();
}

}  // namespace headrace
