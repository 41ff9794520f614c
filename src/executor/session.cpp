#include "executor/session.h"

#include <algorithm>
#include <utility>

#include "base/clock.h"
#include "base/error.h"
#include "base/format.h"
#include "base/log.h"
#include "base/thread_pool.h"
#include "executor/block_copies.h"
#include "executor/generation_run.h"
#include "executor/session_parts.h"
#include "profile/measure.h"

namespace headrace {
namespace {

/// Nothing where there is no measurement, or others gave more back meanwhile.
std::optional<uint64_t> grown_by(std::optional<uint64_t> before, std::optional<uint64_t> after) {
  if (!before || !after || *after < *before) return std::nullopt;
  return *after - *before;
}

Engine open_engine(const SessionOptions& options, Context& context) {
  if (options.synthetic) return Engine::synthetic(*options.synthetic);
  return Engine::open(context.fs, options.engine_dir);
}

}  // namespace

Session::Session(const SessionOptions& options, Context& context)
    : options_(options), context_(context), engine_(open_engine(options, context)) {
  if (options_.automatic_budget && !engine_.build().weight_streaming) {
    options_.automatic_budget = false;  // everything has to be resident
    options_.budget = {};
  }
  check_streaming_allowed(engine_, options_.budget);
  resolve_budget(options_.budget, engine_.manifest().streamable_bytes());
  options_.limits = resolve_limits(options.limits, engine_.build());
  options_.host_threads = resolve_host_threads(options.host_threads);
  backend_ = make_backend(options.device, context);
  prefill_chunk_ = resolve_chunk(options.prefill_chunk, engine_, options_.limits, *backend_);
}

/// Host threads may still read the weights, if a pass failed.
Session::~Session() {
  try {
    backend_->synchronize();
  } catch (const Error& error) {  // the device has failed, and goes too
    context_.log.verbose("{}", error.what());
  }
  backend_->end_host_products();
}

std::unique_ptr<Session> Session::open(const SessionOptions& options, Context& context) {
  std::unique_ptr<Session> session(new Session(options, context));
  session->profile_ =
      with_host_threads(load_or_measure_profile(options.profile_path, session->engine_,
                                                *session->backend_, options.stream, context),
                        host_threads(session->options_, session->engine_, *session->backend_));
  const ModelLimits limits =
      model_limits(session->options_.limits, session->prefill_chunk_, session->engine_.build());
  session->model_ = std::make_unique<Model>(session->engine_, limits, *session->backend_, context);
  session->make_host_workers();
  session->make_kv();
  session->load_weights();
  return session;
}

void Session::make_kv() {
  const KvShape shape = kv_shape(engine_);
  memory_at_start_ = memory_for_weights();
  most_kv_blocks_ = kv_blocks_within(most_memory_for_kv());
  // Where weights take what memory there is, the cache comes first.
  const WeightBudget no_weights{.percent = 0.0, .bytes = {}};
  const int64_t blocks = kv_blocks_beside(options_.automatic_budget ? no_weights : options_.budget);
  const size_t most_bytes = static_cast<size_t>(most_kv_blocks_) * shape.block_bytes();
  kv_ = std::make_unique<KvCache>(shape, backend_->allocate_growable(most_bytes, "KV cache"));
  if (kv_->resize(blocks)) return;
  fail(ErrorCode::kOutOfMemory,
       "[session] the KV cache needs {}, {} are free: allow more memory, a smaller batch, shorter "
       "sequences, or a KV cache of fewer tokens",
       format_bytes(static_cast<size_t>(blocks) * shape.block_bytes()),
       format_bytes(memory_at_start_));
}

bool Session::kv_follows_weights() const { return options_.limits.kv_memory_fraction > 0; }

/// As many as can be used, or fit into the session's share of `bytes`.
int64_t Session::kv_blocks_within(uint64_t bytes) const {
  const int64_t all = kv_blocks(engine_, options_.limits);
  if (!kv_follows_weights()) return all;
  const double share = options_.limits.kv_memory_fraction * static_cast<double>(bytes);
  const auto block_bytes = static_cast<double>(kv_shape(engine_).block_bytes());
  return static_cast<int64_t>(std::min(static_cast<double>(all), share / block_bytes));
}

int64_t Session::kv_blocks_beside(const WeightBudget& budget) const {
  check_streaming_allowed(engine_, budget);
  const uint64_t bytes = memory_for_kv(budget);
  const int64_t blocks = std::min(kv_blocks_within(bytes), most_kv_blocks_);
  if (blocks == 0) {
    refuse_kv_memory(options_.limits.kv_memory_fraction, kv_shape(engine_).block_bytes(),
                     most_memory_for_kv(), bytes);
  }
  return blocks;
}

/// Bytes that the weights of a budget and their ring left when the session began. Resident tiles
/// stay coded if no block of KV cache fits beside them otherwise.
uint64_t Session::memory_for_kv(const WeightBudget& budget) const {
  if (!kv_follows_weights()) return memory_at_start_;
  PlanOptions options = plan_options(options_, engine_, *backend_);
  options.budget = budget;
  const uint64_t block = kv_shape(engine_).block_bytes();
  const uint64_t for_weights = memory_at_start_ > block ? memory_at_start_ - block : 0;
  const Plan plan = plan_within(engine_.manifest(), profile_, options, for_weights);
  const uint64_t taken = plan.arena_bytes + plan.ring_bytes();
  return memory_at_start_ > taken ? memory_at_start_ - taken : 0;
}

/// The most that some budget leaves: all weights may take less than a ring beside none.
uint64_t Session::most_memory_for_kv() const {
  const uint64_t beside_all = memory_for_kv({.percent = 1.0, .bytes = {}});
  if (!engine_.build().weight_streaming) return beside_all;
  return std::max(beside_all, memory_for_kv({.percent = 0.0, .bytes = {}}));
}

int64_t Session::kv_blocks_that_fit() const {
  const uint64_t taken = plan_.arena_bytes + plan_.ring_bytes();
  const uint64_t available = memory_for_weights();
  const uint64_t free = available > taken ? available - taken : 0;
  return kv_->blocks() + static_cast<int64_t>(free / kv_->shape().block_bytes());
}

void Session::copy_kv(std::span<const KvBlockCopy> copies) {
  copy_blocks(copies, *kv_, *backend_);
  backend_->synchronize();
}

/// Bytes that this session may use for weights and ring: what the device, or the machine for the
/// process, has left, and what they take already.
uint64_t Session::memory_for_weights() const {
  const MemoryReport memory = this->memory();
  const uint64_t others = memory.kv_bytes + memory.scratch_bytes + memory.vectors_bytes;
  const auto beside = [](uint64_t bytes, uint64_t less) { return bytes > less ? bytes - less : 0; };
  // Free is what the others, which are there already, have left. Of a host's KV cache only the
  // pages that it has touched are there; its scratch counts as if it were not.
  const uint64_t kv_taken = kv_ ? std::min<uint64_t>(memory.kv_bytes, kv_->taken_bytes()) : 0;
  const uint64_t to_come = memory.kv_bytes - kv_taken + memory.scratch_bytes;
  const auto free = backend_->free_memory_bytes();
  uint64_t available = free ? *free : beside(available_memory_bytes(), to_come);
  if (stream_) available += memory.weights_bytes + memory.ring_bytes;
  const uint64_t limit = options_.memory_limit;
  return limit == 0 ? available : std::min(available, beside(limit, others));
}

/// Error{kOutOfMemory} if it needs more than `available` bytes.
Plan Session::plan_for(const WeightBudget& budget, uint64_t available) const {
  PlanOptions options = plan_options(options_, engine_, *backend_);
  options.budget = budget;
  Plan plan = plan_within(engine_.manifest(), profile_, options, available);
  check_memory(plan, options, available);
  return plan;
}

void Session::check_budget(const WeightBudget& budget, int64_t kv_blocks) const {
  const auto freed = static_cast<uint64_t>(kv_->blocks() - kv_blocks);
  plan_for(budget, memory_for_weights() + freed * kv_->shape().block_bytes());
}

/// Plans, and drops the weights that are loaded only when it is known that the new ones fit.
void Session::load_weights() {
  const uint64_t available = memory_for_weights();
  if (options_.automatic_budget) {
    const PlanOptions to_plan = plan_options(options_, engine_, *backend_);
    options_.budget = automatic_budget(available, ring_limit_bytes(to_plan),
                                       engine_.manifest().streamable_bytes());
  }
  Plan plan = plan_for(options_.budget, available);
  loaded_ = false;
  backend_->synchronize();  // host threads may still read the weights
  backend_->end_host_products();
  embedding_.reset();
  stream_.reset();
  plan_ = std::move(plan);
  const auto used_before = backend_->used_memory_bytes();
  stream_ = std::make_unique<WeightStream>(engine_, plan_, options_.stream, *backend_, context_);
  measured_weights_bytes_ = grown_by(used_before, backend_->used_memory_bytes());
  embedding_ = std::make_unique<EmbeddingReader>(engine_, *stream_);
  stream_->load_resident();
  share_with_host();
  loaded_ = true;
}

void Session::make_host_workers() {
  const int threads = host_threads(options_, engine_, *backend_);
  if (threads == 0) return;
  const int64_t max_k = most_columns(engine_.manifest());
  backend_->use_host_workers(
      [threads, max_k](HostMeetings& meetings) {
        return headrace::make_host_workers(threads, max_k, meetings);
      },
      max_k, most_group_rows(engine_.manifest()));
}

void Session::share_with_host() {
  if (backend_->host_workers() == nullptr || plan_.requests.empty()) return;
  const int64_t canonical_rows = engine_.build().canonical_rows;
  if (!options_.host_share) {
    stream_->balance_with_host({engine_.manifest(), plan_, profile_, canonical_rows});
    return;
  }
  HostShares shares = {};
  for (size_t c = 0; c < shares.size(); ++c) {
    if (canonical_rows != 0 && kSharedRows[c] > canonical_rows) continue;  // another order
    shares[c] = *options_.host_share;
  }
  stream_->share_with_host(shares);
}

/// Error{kOutOfMemory} if a plan of these options needs more than `available` bytes of fast memory,
/// or more of the host's than there is.
void Session::check_memory(const Plan& plan, const PlanOptions& options, uint64_t available) const {
  const uint64_t needed = plan.arena_bytes + plan.ring_bytes();
  if (needed > available) {
    fail(ErrorCode::kOutOfMemory,
         "[session] weights and ring need {}, {} are free beside KV cache and scratch: {}",
         format_bytes(needed), format_bytes(available),
         percent_that_fits(engine_, profile_, options, available));
  }
  const uint64_t held = stream_ && backend_->has_own_memory() ? plan_.read_bytes : 0;
  check_host_memory(plan, available_memory_bytes() + held);
}

void Session::set_budget(const WeightBudget& budget) {
  check_streaming_allowed(engine_, budget);
  resolve_budget(budget, engine_.manifest().streamable_bytes());
  const WeightBudget before = std::exchange(options_.budget, budget);
  const bool automatic = std::exchange(options_.automatic_budget, false);
  try {
    load_weights();
  } catch (...) {
    options_.budget = before;
    if (!loaded_) load_weights();  // as many as before, even if more would fit just now
    options_.automatic_budget = automatic;
    throw;
  }
}

MemoryReport Session::memory() const {
  return {.weights_bytes = plan_.arena_bytes,
          .ring_bytes = plan_.ring_bytes(),
          .vectors_bytes = model_->vector_bytes(),
          .kv_bytes = kv_ ? kv_->size_bytes() : 0,
          .scratch_bytes = model_->scratch_bytes(),
          .measured_weights_bytes = measured_weights_bytes_};
}

PassResources Session::resources() {
  return {.model = *model_,
          .stream = *stream_,
          .embedding = *embedding_,
          .kv = *kv_,
          .backend = *backend_,
          .clock = context_.clock};
}

double Session::predicted_pass_ms(int64_t tokens) const {
  const std::optional<SharedPass> shared = stream_->shared_pass(tokens);
  const double compute_ms =
      plan_.compute_ms * static_cast<double>(tokens) / static_cast<double>(plan_.batch_size);
  const double moved_ms = shared ? shared->pass_ms() : std::max(plan_.link_ms, plan_.host_ms);
  return std::max({moved_ms, plan_.memory_ms, compute_ms});
}

double Session::weights_percent() const {
  if (options_.budget.percent) return *options_.budget.percent;
  return static_cast<double>(plan_.budget_bytes) / static_cast<double>(plan_.streamable_bytes);
}

SchedulerLimits Session::scheduler_limits() const {
  const ModelLimits& limits = model_->limits();
  return {.max_rows = limits.max_tokens,
          .max_logit_rows = limits.max_logit_rows,
          .max_sequences = limits.max_sequences,
          .reuse_prefixes = options_.limits.reuse_prefixes};
}

PromptLimits Session::prompt_limits() const {
  return {.vocab_size = engine_.model().vocab_size,
          .max_input_tokens = engine_.build().max_input_len,
          .max_sequence_tokens = options_.limits.max_sequence_tokens,
          .max_lines = options_.limits.max_lines(),
          .max_beam_width = options_.limits.max_beam_width,
          .kv = kv_->shape(),
          .kv_blocks = kv_->blocks(),
          .kv_shrunk = kv_->blocks() < most_kv_blocks_};
}

void Session::check(std::span<const GenerationRequest> requests) const {
  const SessionLimits& limits = options_.limits;
  int64_t lines = 0;
  for (size_t i = 0; i < requests.size(); ++i) {
    const GenerationRequest& request = requests[i];
    const std::string place = fmt::format("[session] prompt {}", i);
    check_prompt(place, request.prompt, request.max_new_tokens, prompt_limits());
    check_beams(place, request.beams.beam_width, static_cast<int64_t>(request.prompt.size()),
                request.max_new_tokens, prompt_limits());
    validate_token_constraints(request.constraints, engine_.model().vocab_size);
    lines += request.beams.beam_width;
  }
  if (lines > limits.max_lines()) {
    fail(ErrorCode::kInvalidArgument, "[session] a batch of {} does not fit the session's {}",
         lines, limits.max_lines());
  }
}

std::vector<GenerationResult> Session::generate(std::span<const GenerationRequest> requests,
                                                GenerationObserver* observer) {
  check(requests);
  stats_ = {};
  const StreamCounters before = stream_->counters();
  if (!batch_) batch_ = std::make_unique<Batch>(scheduler_limits(), *kv_);
  GenerationRun run(requests, *batch_, options_.limits.context_logits, observer);
  std::vector<GenerationResult> results = run.run(resources(), stats_);
  stats_.stream = stream_->counters() - before;
  return results;
}

}  // namespace headrace
