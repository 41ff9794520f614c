#include "executor/serving.h"

#include <algorithm>
#include <chrono>

#include "base/clock.h"
#include "base/error.h"
#include "base/format.h"
#include "base/log.h"
#include "sampling/softmax.h"

namespace headrace {
namespace {

SchedulerLimits scheduler_limits(const ExecutorOptions& options, const Session& session) {
  SchedulerLimits limits = session.scheduler_limits();
  limits.policy = options.capacity_policy;
  limits.chunked_prompts = options.enable_chunked_context;
  return limits;
}

/// What was thrown when a sequence failed, in one line.
std::string message_of(const Sequence& sequence, const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const BadLogit& bad) {
    if (!sequence.processor_had_good) return bad.what();
    return fmt::format(
        "[executor] {}: the request's logits processor wrote it; finite values and -infinity work",
        bad.logit());
  } catch (const std::exception& exception) {
    return exception.what();
  } catch (...) {
    return "[executor] something was thrown that is not a std::exception";
  }
}

int64_t wall_clock_us() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace

Serving::Serving(const ExecutorOptions& options, Session& session, const ServingOutputs& outputs,
                 Context& context)
    : options_(options),
      session_(session),
      outputs_(outputs),
      context_(context),
      batch_(scheduler_limits(options, session), session.kv()) {}

Serving::~Serving() {
  for (const auto& [id, request] : requests_) leave_batch(*request);
}

void Serving::add(ArrivedRequest arrived) {
  const uint64_t id = arrived.id;
  try {
    check_room(arrived.request, session_.prompt_limits());  // the inbox knows the largest KV cache
    auto request = std::make_unique<ActiveRequest>(
        id, std::move(arrived.request), arrived.arrival_ns, session_.engine().model().vocab_size,
        options_.normalize_log_probs);
    ActiveRequest& added = *requests_.emplace(id, std::move(request)).first->second;
    if (added.deadline_ns()) deadlines_.insert({*added.deadline_ns(), id});
    for (const auto& sequence : added.sequences()) batch_.add(*sequence);
  } catch (const std::exception& error) {
    const auto found = requests_.find(id);
    if (found != requests_.end()) {
      fail(*found->second, error.what());
    } else {
      responses_.push_back(error_response(id, error.what()));
    }
    retire();
  }
}

void Serving::cancel(uint64_t request_id) {
  const auto found = requests_.find(request_id);
  if (found == requests_.end()) return;
  end(*found->second, FinishReason::kCancelled);
  retire();
}

void Serving::fail_all(const std::string& message) {
  for (const auto& [id, request] : requests_) fail(*request, message);
  retire();
}

void Serving::set_percent(double percent) {
  const WeightBudget budget{.percent = percent, .bytes = {}};
  const int64_t before = session_.kv().blocks();
  const int64_t wanted = session_.kv_blocks_beside(budget);
  const int64_t kept = std::max(wanted, batch_.scheduler().least_blocks());
  if (kept < before) {
    session_.check_budget(budget, kept);
    shrink_kv(kept);
  }
  try {
    session_.set_budget(budget);
    reload_ = false;
  } catch (...) {
    reload_ = reload_ || !session_.loaded();
    grow_kv(before);
    throw;
  }
  grow_kv(wanted);
  const KvCache& kv = session_.kv();
  if (kv.blocks() == before) return;
  context_.log.info("KV cache: {} blocks, {}; {} blocks before", kv.blocks(),
                    format_bytes(kv.size_bytes()), before);
}

void Serving::shrink_kv(int64_t blocks) {
  const std::vector<KvBlockCopy> moves = batch_.vacate_cache(blocks);
  try {
    session_.copy_kv(moves);
  } catch (const std::exception& error) {  // what was to be moved is lost
    batch_.forget_prefixes();
    fail_all(error.what());
    throw;
  }
  batch_.resize_cache(blocks);
}

/// As far as there is memory; if it cannot, the cache stays as it is.
void Serving::grow_kv(int64_t blocks) {
  try {
    const KvCache& kv = session_.kv();
    const int64_t most = std::min(blocks, session_.kv_blocks_that_fit());
    for (int64_t more = most - kv.blocks(); more > 0; more /= 2) {
      batch_.resize_cache(std::min(most, kv.blocks() + more));
    }
  } catch (const std::exception& error) {
    context_.log.error("{}", error.what());
  }
}

void Serving::step() {
  const int64_t begin_ns = context_.clock.now_ns();
  stats_ = {.iteration = stats_.iteration};
  expire(begin_ns);
  if (reload_weights()) {
    run_pass();
    if (!batch_.pass().empty()) record(begin_ns);
  }
  retire();
}

/// After a pass has thrown: weights that cannot be loaded end every request.
bool Serving::reload_weights() {
  if (!reload_) return true;
  try {
    session_.reload();
    reload_ = false;
  } catch (const std::exception& error) {
    context_.log.error("{}", error.what());
    fail_all(error.what());
  }
  return !reload_;
}

void Serving::run_pass() {
  const uint64_t streamed = session_.stream().counters().payload_bytes;
  try {
    batch_.step(session_.resources(), *this);
    note_admitted();
  } catch (const std::exception& error) {
    context_.log.error("{}", error.what());
    note_admitted();
    for (const PassRows& rows : batch_.pass()) fail(request_of(*rows.sequence), error.what());
    if (batch_.pass().empty()) fail_all(error.what());  // it could not even be planned
    batch_.forget_prefixes();
    reload_ = true;
  }
  stats_.streamed_bytes = session_.stream().counters().payload_bytes - streamed;
}

void Serving::expire(int64_t now_ns) {
  while (!deadlines_.empty() && deadlines_.begin()->first <= now_ns) {
    end(*requests_.at(deadlines_.begin()->second), FinishReason::kTimedOut);
    deadlines_.erase(deadlines_.begin());
  }
}

void Serving::end(ActiveRequest& request, FinishReason reason) {
  if (request.over()) return;
  leave_batch(request);
  request.end(reason, responses_);
  over_.push_back(request.id());
}

void Serving::fail(ActiveRequest& request, const std::string& message) {
  if (request.over()) return;
  leave_batch(request);
  request.fail(message, responses_);
  over_.push_back(request.id());
}

void Serving::leave_batch(const ActiveRequest& request) {
  for (const auto& sequence : request.sequences()) batch_.remove(*sequence);
}

void Serving::note_admitted() {
  for (const Sequence* sequence : batch_.scheduler().admitted()) {
    if (!request_of(*sequence).start()) continue;
    ++started_;
    ++stats_.new_requests;
  }
}

/// Hands the responses over and forgets the requests that are over. Not in a pass, which points at
/// their sequences.
void Serving::retire() {
  for (const uint64_t id : over_) {
    const auto found = requests_.find(id);
    const ActiveRequest& request = *found->second;
    if (request.started()) --started_;
    if (request.deadline_ns()) deadlines_.erase({*request.deadline_ns(), id});
    requests_.erase(found);
  }
  over_.clear();
  outputs_.responses.put(responses_);
}

ActiveRequest& Serving::request_of(const Sequence& sequence) {
  return *requests_.at(sequence.request_id);
}

void Serving::on_context_logits(Sequence& sequence, int64_t, std::span<const float> logits) {
  request_of(sequence).add_context_logits(sequence, logits);
}

Serving::ShownStep Serving::show(const Sequence& sequence, std::span<float> logits) {
  ShownStep shown{.step = {.request_id = sequence.request_id,
                           .client_id = request_of(sequence).request().client_id,
                           .sequence_index = sequence.index,
                           .logits = logits}};
  if (!sequence.beams) shown.tokens = {sequence.ids};
  for (int64_t line = 0; sequence.beams && line < sequence.lines(); ++line) {
    const auto prompt_end = sequence.ids.begin() + sequence.prompt_size;
    std::vector<int32_t>& tokens = shown.beams.emplace_back(sequence.ids.begin(), prompt_end);
    const std::span<const int32_t> generated = sequence.beams->tokens(line);
    tokens.insert(tokens.end(), generated.begin(), generated.end());
  }
  for (const auto& tokens : shown.beams) shown.tokens.emplace_back(tokens);
  shown.step.tokens = shown.tokens;
  return shown;
}

void Serving::on_logits(Sequence& sequence, std::span<float> logits) {
  ActiveRequest& request = request_of(sequence);
  const auto processor = options_.logits_processors.find(request.request().logits_processor);
  if (processor != options_.logits_processors.end()) {
    sequence.processor_had_good = all_good(logits);
    processor->second(show(sequence, logits).step);
  }
  request.add_generation_logits(sequence, logits);
}

void Serving::on_batched_logits(std::span<Sequence* const> sequences, std::span<float> logits) {
  const auto vocab = static_cast<size_t>(session_.engine().model().vocab_size);
  std::vector<ShownStep> shown;
  std::vector<LogitsStep> steps;
  for (Sequence* sequence : sequences) {
    const size_t size = static_cast<size_t>(sequence->lines()) * vocab;
    shown.push_back(show(*sequence, logits.first(size)));  // what steps point at stays in place
    steps.push_back(shown.back().step);
    sequence->processor_had_good = all_good(shown.back().step.logits);
    logits = logits.subspan(size);
  }
  options_.batched_logits_processor(steps);
  for (size_t i = 0; i < sequences.size(); ++i) {
    request_of(*sequences[i]).add_generation_logits(*sequences[i], steps[i].logits);
  }
}

bool Serving::on_token(Sequence& sequence) {
  ++stats_.generated_tokens;
  ActiveRequest& request = request_of(sequence);
  request.on_token(sequence, responses_);
  if (request.over()) over_.push_back(request.id());
  return true;
}

void Serving::on_failure(Sequence& sequence, std::exception_ptr error) {
  fail(request_of(sequence), message_of(sequence, error));
}

void Serving::record(int64_t begin_ns) {
  if (outputs_.requests.wanted()) record_requests();
  const Scheduler& scheduler = batch_.scheduler();
  const auto over = static_cast<int64_t>(over_.size());
  const auto started_over =
      std::ranges::count_if(over_, [&](uint64_t id) { return requests_.at(id)->started(); });
  stats_.max_active_requests = scheduler.limits().max_sequences;
  stats_.queued_requests = queued() - (over - started_over);
  stats_.active_requests = started_ - started_over;
  stats_.completed_requests = over;
  stats_.paused_sequences = scheduler.preempted() - recorded_preempted_;
  recorded_preempted_ = scheduler.preempted();
  stats_.scheduled_sequences = static_cast<int64_t>(batch_.pass().size());
  stats_.context_sequences = batch_.prompt_sequences();
  stats_.generation_sequences = stats_.scheduled_sequences - stats_.context_sequences;
  stats_.context_tokens = batch_.prompt_rows();
  stats_.gpu_weights_percent = session_.weights_percent();
  stats_.kv_cache = kv_stats();
  stats_.timestamp_us = wall_clock_us();
  stats_.latency_ms = static_cast<double>(context_.clock.now_ns() - begin_ns) / 1e6;
  stats_.scheduling_ms = stats_.latency_ms - static_cast<double>(batch_.model_ns()) / 1e6;
  outputs_.iterations.add(stats_);
  ++stats_.iteration;
}

KvCacheStats Serving::kv_stats() const {
  const KvCache& kv = session_.kv();
  return {.max_blocks = kv.blocks(),
          .free_blocks = batch_.scheduler().free_blocks(),
          .used_blocks = kv.blocks() - batch_.scheduler().free_blocks(),
          .tokens_per_block = kv.shape().block_tokens,
          .reused_blocks = batch_.scheduler().reused_blocks()};
}

void Serving::record_requests() {
  RequestStatsOfIteration all{.iteration = stats_.iteration};
  all.requests.reserve(requests_.size());
  for (const auto& [id, request] : requests_) all.requests.push_back(request->stats());
  for (const PassRows& rows : batch_.pass()) {
    const auto found = std::ranges::lower_bound(all.requests, rows.sequence->request_id, {},
                                                &RequestStats::request_id);
    found->scheduled = true;
  }
  outputs_.requests.add(std::move(all));
}

}  // namespace headrace
