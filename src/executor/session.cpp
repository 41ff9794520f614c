#include "executor/session.h"

#include <algorithm>
#include <cmath>

#include "base/clock.h"
#include "base/error.h"
#include "base/format.h"
#include "base/log.h"
#include "base/thread_pool.h"
#include "executor/batch_run.h"
#include "profile/measure.h"

namespace headrace {
namespace {

constexpr size_t kScratchLimitBytes = size_t{256} << 20;
constexpr int64_t kLargestChunk = 512;
constexpr int64_t kSmallestChunk = 16;

std::unique_ptr<Backend> make_backend(const std::string& device, Context& context) {
  if (device == "cuda") {
    fail(ErrorCode::kDevice,
         "[device] this build has no CUDA backend: use --device cpu, or auto");
  }
  if (device != "cpu" && device != "auto") {
    fail(ErrorCode::kInvalidArgument, "[device] '{}' is not a device: use auto, cpu or cuda", device);
  }
  return make_cpu_backend(context.pool, detect_cpu_isa());
}

SessionLimits resolve_limits(SessionLimits limits, const BuildConfig& build) {
  if (limits.max_sequences < 1) {
    fail(ErrorCode::kInvalidArgument, "[session] a batch of {} cannot run: use 1 or more",
         limits.max_sequences);
  }
  if (limits.max_sequences > build.max_batch_size) {
    fail(ErrorCode::kInvalidArgument,
         "[session] a batch of {} is larger than the engine's --max_batch_size {}: use fewer, or build "
         "again with more",
         limits.max_sequences, build.max_batch_size);
  }
  if (limits.max_sequence_tokens == 0) limits.max_sequence_tokens = build.max_seq_len;
  if (limits.max_sequence_tokens > build.max_seq_len) {
    fail(ErrorCode::kInvalidArgument,
         "[session] {} tokens of prompt and output are more than the engine's --max_seq_len {}: ask for "
         "fewer, or build again with more",
         limits.max_sequence_tokens, build.max_seq_len);
  }
  return limits;
}

ModelLimits model_limits(const SessionLimits& limits, int64_t chunk) {
  const int64_t rows = std::max(chunk, limits.max_sequences);
  return {.max_tokens = rows,
          .max_logit_rows = limits.context_logits ? rows : limits.max_sequences};
}

/// The largest power of two up to 512 whose activations leave half of the scratch limit to kernels.
int64_t choose_chunk(const ModelConfig& config, const SessionLimits& limits) {
  int64_t chunk = kLargestChunk;
  while (chunk > kSmallestChunk &&
         Model::workspace_bytes(config, model_limits(limits, chunk)) > kScratchLimitBytes / 2) {
    chunk /= 2;
  }
  return chunk;
}

int64_t resolve_chunk(int64_t asked, const Engine& engine, const SessionLimits& limits) {
  if (asked < 0) {
    fail(ErrorCode::kInvalidArgument, "[session] a prefill chunk of {} rows cannot run: use 1 or more",
         asked);
  }
  const int64_t chunk = asked == 0 ? choose_chunk(engine.model(), limits) : asked;
  return std::min(chunk, limits.max_sequences * limits.max_sequence_tokens);
}

void check_streaming_allowed(const Engine& engine, const WeightBudget& budget) {
  const bool everything = budget.percent && *budget.percent == 1.0;
  if (engine.build().weight_streaming || everything) return;
  fail(ErrorCode::kInvalidArgument,
       "[session] Engine built without weight streaming. Cannot set gpu_weights_percent to a value other "
       "than 1. Build it with --weight_streaming.");
}

std::unique_ptr<KvCache> make_kv(const Engine& engine, const SessionLimits& limits,
                                 Backend& backend) {
  const ModelConfig& config = engine.model();
  const KvShape shape{.layers = config.num_hidden_layers,
                      .kv_heads = config.num_key_value_heads,
                      .head_dim = config.head_size,
                      .block_tokens = engine.build().tokens_per_block,
                      .dtype = config.dtype};
  const int64_t blocks = limits.max_sequences * shape.blocks_for(limits.max_sequence_tokens);
  return std::make_unique<KvCache>(
      shape, blocks, backend.allocate(static_cast<size_t>(blocks) * shape.block_bytes(), "KV cache"));
}

}  // namespace

Session::Session(const SessionOptions& options, Context& context)
    : options_(options), context_(context), engine_(Engine::open(context.fs, options.engine_dir)) {
  if (options_.automatic_budget && !engine_.build().weight_streaming) {
    options_.automatic_budget = false;  // everything has to be resident
    options_.budget = {};
  }
  check_streaming_allowed(engine_, options_.budget);
  resolve_budget(options_.budget, engine_.manifest().streamable_bytes());
  options_.limits = resolve_limits(options.limits, engine_.build());
  prefill_chunk_ = resolve_chunk(options.prefill_chunk, engine_, options_.limits);
  backend_ = make_backend(options.device, context);
}

std::unique_ptr<Session> Session::open(const SessionOptions& options, Context& context) {
  std::unique_ptr<Session> session(new Session(options, context));
  session->profile_ = load_or_measure_profile(options.profile_path, session->engine_,
                                              *session->backend_, options.stream, context);
  session->kv_ = make_kv(session->engine_, session->options_.limits, *session->backend_);
  session->model_ = std::make_unique<Model>(
      session->engine_, model_limits(session->options_.limits, session->prefill_chunk_),
      *session->backend_, context);
  session->load_weights();
  return session;
}

/// Bytes that this session may use for weights and ring: what the machine has left for the process.
uint64_t Session::memory_for_weights() const {
  const MemoryReport memory = this->memory();
  const uint64_t others = memory.kv_bytes + memory.scratch_bytes + memory.vectors_bytes;
  const uint64_t available = available_memory_bytes();
  return available > others ? available - others : 0;
}

void Session::load_weights() {
  embedding_.reset();
  stream_.reset();
  PlanOptions plan_options;
  plan_options.batch_size = options_.limits.max_sequences;
  plan_options.ring_requests = options_.ring_requests;
  const uint64_t available = memory_for_weights();
  const uint64_t streamable = engine_.manifest().streamable_bytes();
  const uint64_t beside_weights = available > plan_options.ring_limit_bytes
                                      ? available - plan_options.ring_limit_bytes
                                      : 0;
  if (options_.automatic_budget) {
    const uint64_t margin = beside_weights / 10;  // for the rest of the process and its neighbours
    options_.budget = {.percent = {}, .bytes = std::min(streamable, beside_weights - margin)};
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
  stream_ = std::make_unique<WeightStream>(engine_, plan_, options_.stream, *backend_, context_);
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
          .scratch_bytes = model_->scratch_bytes()};
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
      fail(ErrorCode::kInvalidArgument, "[session] prompt {} is empty: it needs at least one token", i);
    }
    if (wanted < 1) {
      fail(ErrorCode::kInvalidArgument, "[session] prompt {} asks for {} new tokens: ask for 1 or more", i,
           wanted);
    }
    if (length > max_input) {
      fail(ErrorCode::kInvalidArgument,
           "[session] prompt {} has {} tokens, the engine's --max_input_len is {}: shorten it "
           "(--max_input_length {} keeps its end), or build again with more",
           i, length, max_input, max_input);
    }
    if (length > limits.max_sequence_tokens - wanted) {
      fail(ErrorCode::kInvalidArgument,
           "[session] prompt {} has {} tokens and asks for {} more, {} fit: ask for {} or fewer, or build "
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
