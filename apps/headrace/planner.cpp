#include "headrace/planner.h"

#include <algorithm>
#include <memory>

#include <fmt/format.h>

#include "executor/session_parts.h"
#include "model/model.h"
#include "profile/measure.h"

namespace headrace::app {
namespace {

/// Plans sessions of one engine on one machine. Nothing large is allocated or read.
class Planner {
 public:
  Planner(const SessionOptions& options, Context& context)
      : options_(options),
        engine_(Engine::open(context.fs, options_.engine_dir)),
        backend_(make_backend(options_.device, context)) {
    options_.limits = resolve_limits(options_.limits, engine_.build());
    options_.host_threads = resolve_host_threads(options_.host_threads);
    const ModelConfig& model = engine_.model();
    report_ = {.engine_dir = options_.engine_dir,
               .model = fmt::format("{}, {}, {} layers", model.architecture,
                                    dtype_name(model.dtype), model.num_hidden_layers),
               .tiles = engine_.manifest().tiles.size(),
               .batch_size = options_.limits.max_sequences,
               .sequence_tokens = options_.limits.max_sequence_tokens,
               .max_batch_size = engine_.build().max_batch_size,
               .streamed_home = streamed_home(*backend_),
               .available_bytes = available_bytes(),
               .profile = load_or_measure_profile(options_.profile_path, engine_, *backend_,
                                                  options_.stream, context),
               .host_threads = host_threads(options_, engine_, *backend_)};
  }

  /// Bytes of fast memory that are free, or the user's limit if that is less.
  uint64_t available_bytes() const {
    const uint64_t free = backend_->free_memory_bytes().value_or(available_memory_bytes());
    return options_.memory_limit == 0 ? free : std::min(free, options_.memory_limit);
  }

  /// The budget that the flags ask for.
  WeightBudget budget() {
    if (!options_.automatic_budget) return options_.budget;
    if (!streams()) return {};  // everything has to be resident
    const uint64_t ring = ring_limit_bytes(plan_options(options_, engine_, *backend_));
    return automatic_budget(available_for_weights(), ring, engine_.manifest().streamable_bytes());
  }

  void add(const WeightBudget& budget) {
    check_streaming_allowed(engine_, budget);
    PlannedSession session;
    PlanOptions to_plan = plan_options(options_, engine_, *backend_);
    to_plan.budget = budget;
    session.plan =
        plan_within(engine_.manifest(), with_host_threads(report_.profile, report_.host_threads),
                    to_plan, available_for_weights());
    session.percent = budget.percent.value_or(static_cast<double>(session.plan.budget_bytes) /
                                              static_cast<double>(session.plan.streamable_bytes));
    session.memory = memory(session.plan, options_.limits);
    session.prefill_chunk =
        resolve_chunk(options_.prefill_chunk, engine_, options_.limits, *backend_);
    session.largest_batch = largest_batch(session.plan);
    report_.sessions.push_back(std::move(session));
  }

  /// Whether host memory holds what the last plan streams from it.
  void check_last() const {
    check_host_memory(report_.sessions.back().plan, available_memory_bytes());
  }

  const PlanReport& report() const { return report_; }
  bool streams() const { return engine_.build().weight_streaming; }

 private:
  /// Beside KV cache, scratch and vectors.
  uint64_t available_for_weights() {
    const uint64_t others = memory(Plan(), options_.limits).total_bytes();
    return report_.available_bytes > others ? report_.available_bytes - others : 0;
  }

  MemoryReport memory(const Plan& plan, const SessionLimits& limits) {
    const ModelConfig& config = engine_.model();
    const ModelLimits rows = model_limits(
        limits, resolve_chunk(options_.prefill_chunk, engine_, limits, *backend_), engine_.build());
    uint64_t vectors = 0;
    for (const VectorInfo& vector : engine_.manifest().vectors) {
      vectors += static_cast<uint64_t>(vector.count) * sizeof(float);
    }
    return {.weights_bytes = plan.arena_bytes,
            .ring_bytes = plan.ring_bytes(),
            .vectors_bytes = vectors,
            .kv_bytes =
                static_cast<uint64_t>(kv_blocks(engine_, limits)) * kv_shape(engine_).block_bytes(),
            .scratch_bytes = Model::workspace_bytes(config, rows) +
                             backend_->reserve(pass_limits(config, rows))};
  }

  /// Sequences that fit in what is free, up to the engine's limit: by bisection, as memory grows
  /// with the batch.
  int64_t largest_batch(const Plan& plan) {
    int64_t fits = 0;
    int64_t too_many = report_.max_batch_size + 1;
    while (too_many - fits > 1) {
      SessionLimits limits = options_.limits;
      limits.max_sequences = fits + (too_many - fits) / 2;
      const bool enough = memory(plan, limits).total_bytes() <= report_.available_bytes;
      (enough ? fits : too_many) = limits.max_sequences;
    }
    return fits;
  }

  SessionOptions options_;
  Engine engine_;
  std::unique_ptr<Backend> backend_;
  PlanReport report_;
};

}  // namespace

PlanReport plan_sessions(const SessionOptions& options, bool table, Context& context) {
  Planner planner(options, context);
  if (table) {
    for (int tenth = planner.streams() ? 0 : 10; tenth <= 10; ++tenth) {
      planner.add({.percent = tenth / 10.0});
    }
  } else {
    planner.add(planner.budget());
    planner.check_last();
  }
  return planner.report();
}

}  // namespace headrace::app
