#include "executor/session.h"

#include <algorithm>
#include <cmath>

#include "base/clock.h"
#include "base/error.h"
#include "base/format.h"
#include "base/log.h"
#include "base/thread_pool.h"
#include "executor/batch_run.h"
#include "executor/session_parts.h"
#include "profile/measure.h"

namespace headrace {
namespace {

std::unique_ptr<KvCache> make_kv(const Engine& engine, const SessionLimits& limits,
                                 Backend& backend) {
  const KvShape shape = kv_shape(engine);
  const int64_t blocks = kv_blocks(engine, limits);
  return std::make_unique<KvCache>(
      shape, blocks,
      backend.allocate(static_cast<size_t>(blocks) * shape.block_bytes(), "KV cache"));
}

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
  backend_ = make_backend(options.device, context);
  prefill_chunk_ = resolve_chunk(options.prefill_chunk, engine_, options_.limits, *backend_);
}

std::unique_ptr<Session> Session::open(const SessionOptions& options, Context& context) {
  std::unique_ptr<Session> session(new Session(options, context));
  session->profile_ = load_or_measure_profile(options.profile_path, session->engine_,
                                              *session->backend_, options.stream, context);
  session->kv_ = make_kv(session->engine_, session->options_.limits, *session->backend_);
  const ModelLimits limits =
      model_limits(session->options_.limits, session->prefill_chunk_, session->engine_.build());
  session->model_ = std::make_unique<Model>(session->engine_, limits, *session->backend_, context);
  session->load_weights();
  return session;
}

/// Bytes that this session may use for weights and ring: what the device, or the machine for the
/// process, has left.
uint64_t Session::memory_for_weights() const {
  const MemoryReport memory = this->memory();
  const uint64_t others = memory.kv_bytes + memory.scratch_bytes + memory.vectors_bytes;
  const auto beside_others = [&](uint64_t bytes) { return bytes > others ? bytes - others : 0; };
  // A device's free memory is what the others, which are there already, have left.
  const auto free = backend_->free_memory_bytes();
  const uint64_t available = free ? *free : beside_others(available_memory_bytes());
  const uint64_t limit = options_.memory_limit;
  return limit == 0 ? available : std::min(available, beside_others(limit));
}

void Session::load_weights() {
  embedding_.reset();
  stream_.reset();
  PlanOptions plan_options;
  plan_options.batch_size = options_.limits.max_sequences;
  plan_options.streamed_home = streamed_home(*backend_);
  plan_options.ring_requests = options_.ring_requests;
  const uint64_t available = memory_for_weights();
  const uint64_t streamable = engine_.manifest().streamable_bytes();
  const uint64_t ring = ring_limit_bytes(plan_options);
  const uint64_t beside_weights = available > ring ? available - ring : 0;
  if (options_.automatic_budget) {
    options_.budget = automatic_budget(available, ring, streamable);
  }
  plan_options.budget = options_.budget;
  plan_ = make_plan(engine_.manifest(), profile_, plan_options);
  if (plan_.arena_bytes + plan_.ring_bytes() > available) {
    fail(ErrorCode::kOutOfMemory,
         "[session] weights and ring need {}, {} are free beside KV cache and scratch: "
         "--gpu_weights_percent {:.2f} fits",
         format_bytes(plan_.arena_bytes + plan_.ring_bytes()), format_bytes(available),
         std::floor(100.0 * static_cast<double>(std::min(streamable, beside_weights)) /
                    static_cast<double>(streamable)) /
             100.0);
  }
  check_host_memory(plan_, available_memory_bytes());
  const auto used_before = backend_->used_memory_bytes();
  stream_ = std::make_unique<WeightStream>(engine_, plan_, options_.stream, *backend_, context_);
  measured_weights_bytes_ = grown_by(used_before, backend_->used_memory_bytes());
  embedding_ = std::make_unique<EmbeddingReader>(engine_, *stream_);
  stream_->load_resident();
}

void Session::set_budget(const WeightBudget& budget) {
  check_streaming_allowed(engine_, budget);
  options_.automatic_budget = false;
  resolve_budget(budget, engine_.manifest().streamable_bytes());
  options_.budget = budget;
  load_weights();
}

MemoryReport Session::memory() const {
  return {.weights_bytes = plan_.arena_bytes,
          .ring_bytes = plan_.ring_bytes(),
          .vectors_bytes = model_->vector_bytes(),
          .kv_bytes = kv_->size_bytes(),
          .scratch_bytes = model_->scratch_bytes(),
          .measured_weights_bytes = measured_weights_bytes_};
}

void Session::check(std::span<const GenerationRequest> requests) const {
  const SessionLimits& limits = options_.limits;
  const int64_t max_input = engine_.build().max_input_len;
  if (static_cast<int64_t>(requests.size()) > limits.max_sequences) {
    fail(ErrorCode::kInvalidArgument, "[session] a batch of {} does not fit the session's {}",
         requests.size(), limits.max_sequences);
  }
  for (size_t i = 0; i < requests.size(); ++i) {
    const auto length = static_cast<int64_t>(requests[i].prompt.size());
    const int64_t wanted = requests[i].max_new_tokens;
    if (length == 0) {
      fail(ErrorCode::kInvalidArgument, "[session] prompt {} is empty: it needs at least one token",
           i);
    }
    if (wanted < 1) {
      fail(ErrorCode::kInvalidArgument,
           "[session] prompt {} asks for {} new tokens: ask for 1 or more", i, wanted);
    }
    if (length > max_input) {
      fail(ErrorCode::kInvalidArgument,
           "[session] prompt {} has {} tokens, the engine's --max_input_len is {}: shorten it "
           "(--max_input_length {} keeps its end), or build again with more",
           i, length, max_input, max_input);
    }
    if (length > limits.max_sequence_tokens - wanted) {
      fail(ErrorCode::kInvalidArgument,
           "[session] prompt {} has {} tokens and asks for {} more, {} fit: ask for {} or fewer, "
           "or build "
           "again with a larger --max_seq_len",
           i, length, wanted, limits.max_sequence_tokens,
           std::max<int64_t>(0, limits.max_sequence_tokens - length));
    }
    for (const int32_t id : requests[i].prompt) {
      if (id < 0 || id >= engine_.model().vocab_size) {
        fail(ErrorCode::kInvalidArgument,
             "[session] prompt {} holds token id {}, the vocabulary is 0 to {}", i, id,
             engine_.model().vocab_size - 1);
      }
    }
  }
}

std::vector<GenerationResult> Session::generate(std::span<const GenerationRequest> requests,
                                                GenerationObserver* observer) {
  check(requests);
  stats_ = {};
  const StreamCounters before = stream_->counters();
  BatchRun run({.model = *model_,
                .stream = *stream_,
                .embedding = *embedding_,
                .kv = *kv_,
                .backend = *backend_,
                .clock = context_.clock},
               requests, prefill_chunk_, options_.limits.context_logits, observer);
  std::vector<GenerationResult> results = run.run(stats_);
  stats_.stream = stream_->counters() - before;
  return results;
}

}  // namespace headrace
