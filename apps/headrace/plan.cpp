#include <cstdio>
#include <memory>
#include <string>

#include "headrace/app.h"
#include "headrace/plan_report.h"
#include "headrace/planner.h"
#include "headrace/session_flags.h"

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

int plan(const PlanFlags& flags, Context& context) {
  const bool one =
      !flags.session.gpu_weights_percent.empty() || !flags.session.gpu_weights_budget.empty();
  SessionFlags filled = flags.session;
  if (filled.gpu_weights_percent.empty()) filled.gpu_weights_percent = "1";
  SessionOptions options = session_options(filled);
  options.limits.max_sequences = flags.batch_size;
  options.limits.max_sequence_tokens = flags.sequence_tokens;
  const PlanReport report = plan_sessions(options, /*table=*/!one, context);
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
  command->add_option("--gpu_weights_budget", session.gpu_weights_budget,
                      "Bytes of weights kept in fast memory, as in 6G, instead of a percentage");
  add_percent_flag(*command, session,
                   "Share of the weights kept in fast memory, 0.0 to 1.0, or auto (default: a "
                   "table over percentages)");
  command->add_option("--gpu_memory_limit", session.gpu_memory_limit,
                      "Bytes of fast memory for everything together, as in 24G (default: what is "
                      "free)");
  command->add_option("--batch_size", flags->batch_size, "Sequences at a time (default 1)")
      ->check(CLI::Range(int64_t{1}, kMostOfEngines));
  command
      ->add_option("--max_seq_len", flags->sequence_tokens,
                   "Tokens of prompt and output of a sequence (default: the engine's)")
      ->check(CLI::Range(int64_t{1}, kMostOfEngines));
  command->add_option("--prefill_chunk", session.prefill_chunk,
                      "Token rows of a prefill pass (default: up to 512, scratch under 256 MB)");
  command->add_option("--ring_requests", session.ring_requests,
                      "Slots of the ring that streamed weights pass through (default: chosen)");
  add_host_threads_flag(*command, session);
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
