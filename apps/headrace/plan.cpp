#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>

#include <fmt/format.h>

#include "base/error.h"
#include "executor/session_parts.h"
#include "headrace/app.h"
#include "headrace/plan_report.h"
#include "headrace/session_flags.h"
#include "model/model.h"
#include "profile/measure.h"

namespace headrace::app {
namespace {

constexpr const char* kExample = R"(Examples:
  headrace plan --engine_dir engine_outputs
  headrace plan --engine_dir engine_outputs --gpu_weights_percent 0.2 --batch_size 8
  headrace plan --engine_dir engine_outputs --gpu_weights_budget 6G --json)";

struct PlanFlags {
  SessionFlags session;
  int64_t batch_size = 1;
  int64_t sequence_tokens = 0;
  bool json = false;
};

/// Plans sessions of one engine on one machine. Nothing large is allocated or read.
class Planner {
 public:
  Planner(const PlanFlags& flags, Context& context)
      : options_(session_options(flags.session)),
        engine_(Engine::open(context.fs, options_.engine_dir)),
        backend_(make_backend(options_.device, context)) {
    options_.limits.max_sequences = flags.batch_size;
    options_.limits.max_sequence_tokens = flags.sequence_tokens;
    options_.limits = resolve_limits(options_.limits, engine_.build());
    const ModelConfig& model = engine_.model();
    report_ = {.engine_dir = options_.engine_dir,
               .model = fmt::format("{}, {}, {} layers", model.architecture,
                                    dtype_name(model.dtype), model.num_hidden_layers),
               .tiles = engine_.manifest().tiles.size(),
               .batch_size = flags.batch_size,
               .sequence_tokens = options_.limits.max_sequence_tokens,
               .max_batch_size = engine_.build().max_batch_size,
               .streamed_home = streamed_home(*backend_),
               .available_bytes = available_bytes(),
               .profile = load_or_measure_profile(options_.profile_path, engine_, *backend_,
                                                  options_.stream, context)};
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
    const uint64_t others = memory(Plan(), options_.limits).total_bytes();
    const uint64_t available = report_.available_bytes;
    const uint64_t ring = ring_limit_bytes({.streamed_home = report_.streamed_home});
    return automatic_budget(available > others ? available - others : 0, ring,
                            engine_.manifest().streamable_bytes());
  }

  void add(const WeightBudget& budget) {
    check_streaming_allowed(engine_, budget);
    PlannedSession session;
    session.plan = make_plan(engine_.manifest(), report_.profile,
                             {.budget = budget,
                              .streamed_home = report_.streamed_home,
                              .batch_size = report_.batch_size,
                              .ring_requests = options_.ring_requests});
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

int plan(const PlanFlags& flags, Context& context) {
  const bool one =
      !flags.session.gpu_weights_percent.empty() || !flags.session.gpu_weights_budget.empty();
  PlanFlags filled = flags;
  if (filled.session.gpu_weights_percent.empty()) filled.session.gpu_weights_percent = "1";
  Planner planner(filled, context);
  if (one) {
    planner.add(planner.budget());
    planner.check_last();
  } else {
    for (int tenth = planner.streams() ? 0 : 10; tenth <= 10; ++tenth) {
      planner.add({.percent = tenth / 10.0});
    }
  }
  const PlanReport& report = planner.report();
  const std::string text = flags.json ? plan_json(report)
                           : one      ? plan_text(report, report.sessions.front())
                                      : plan_table(report);
  std::fputs(text.c_str(), stdout);
  return 0;
}

}  // namespace

void add_plan_command(App& app) {
  CLI::App* command = app.cli.add_subcommand(
      "plan", "Say how an engine would run on this machine: memory, bytes streamed, speed");
  command->footer(kExample);
  const auto flags = std::make_shared<PlanFlags>();  // shared with the callback, which is copied
  flags->session.gpu_weights_percent.clear();
  SessionFlags& session = flags->session;
  command->add_option("--engine_dir", session.engine_dir, "Engine folder (default engine_outputs)");
  command->add_option("--device", session.device, "auto, cpu or cuda (default auto)");
  command->add_option("--gpu_weights_percent", session.gpu_weights_percent,
                      "Share of the weights kept in fast memory, 0.0 to 1.0, or auto (default: a "
                      "table over percentages)");
  command->add_option("--gpu_weights_budget", session.gpu_weights_budget,
                      "Bytes of weights kept in fast memory, as in 6G, instead of a percentage");
  command->add_option("--gpu_memory_limit", session.gpu_memory_limit,
                      "Bytes of fast memory for everything together, as in 24G (default: what is "
                      "free)");
  command->add_option("--batch_size", flags->batch_size, "Sequences at a time (default 1)");
  command->add_option("--max_seq_len", flags->sequence_tokens,
                      "Tokens of prompt and output of a sequence (default: the engine's)");
  command->add_option("--prefill_chunk", session.prefill_chunk,
                      "Token rows of a prefill pass (default: up to 512, scratch under 256 MB)");
  command->add_option("--ring_requests", session.ring_requests,
                      "Slots of the ring that streamed weights pass through (default: chosen)");
  command->add_option("--io", session.io, "Read with auto, uring or pread (default auto)");
  command->add_option("--direct_io", session.direct_io,
                      "Read past the page cache: auto, on or off (default auto)");
  command->add_option("--profile", session.profile,
                      "Machine profile to plan with (default: measured once and cached)");
  command->add_flag("--json", flags->json, "Print JSON");
  add_common_flags(app, *command);
  command->final_callback(
      [&app, flags] { app.body = [flags](Context& context) { return plan(*flags, context); }; });
}

}  // namespace headrace::app
