#include "headrace/session_flags.h"

#include <charconv>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/format.h"
#include "base/log.h"
#include "base/trace.h"
#include "headrace/memory_json.h"

namespace headrace::app {
namespace {

VerifyMode parse_verify(const std::string& name) {
  if (name == "first") return VerifyMode::kFirst;
  if (name == "always") return VerifyMode::kAlways;
  if (name == "never") return VerifyMode::kNever;
  fail(ErrorCode::kInvalidArgument, "[--verify] '{}' is not a mode: use first, always or never",
       name);
}

IoMode parse_io(const std::string& name) {
  if (name == "auto") return IoMode::kAuto;
  if (name == "uring") return IoMode::kUring;
  if (name == "pread") return IoMode::kPread;
  fail(ErrorCode::kInvalidArgument, "[--io] '{}' is not a way to read: use auto, uring or pread",
       name);
}

DirectMode parse_direct(const std::string& name) {
  if (name == "auto") return DirectMode::kAuto;
  if (name == "on") return DirectMode::kOn;
  if (name == "off") return DirectMode::kOff;
  fail(ErrorCode::kInvalidArgument, "[--direct_io] '{}' is not a mode: use auto, on or off", name);
}

WeightBudget parse_budget(const SessionFlags& flags) {
  WeightBudget budget;
  if (!flags.gpu_weights_budget.empty()) {
    budget.percent.reset();
    budget.bytes = parse_bytes(flags.gpu_weights_budget, "--gpu_weights_budget");
  } else {
    budget.percent = parse_number(flags.gpu_weights_percent, "--gpu_weights_percent");
  }
  return budget;
}

nlohmann::json counters_json(const StreamCounters& stream) {
  return {{"passes", stream.passes},
          {"requests", stream.requests},
          {"payload_bytes", stream.payload_bytes},
          {"leased_bytes", stream.leased_bytes},
          {"padding_bytes", stream.padding_bytes},
          {"read_bytes", stream.read_bytes},
          {"dropped_bytes", stream.dropped_bytes},
          {"embedding_bytes", stream.embedding_bytes},
          {"embedding_read_bytes", stream.embedding_read_bytes},
          {"resident_load_bytes", stream.resident_load_bytes},
          {"link_busy_ns", stream.link_busy_ns},
          {"starved_ns", stream.starved_ns},
          {"wait_ns", stream.wait_ns},
          {"pass_ns", stream.pass_ns}};
}

nlohmann::json stats_json(const Session& session, const GenerationStats& stats) {
  const Plan& plan = session.plan();
  return {
      {"plan",
       {{"streamable_bytes", plan.streamable_bytes},
        {"budget_bytes", plan.budget_bytes},
        {"resident_bytes", plan.resident_bytes},
        {"streamed_bytes_per_pass", plan.streamed_bytes},
        {"ring_requests", plan.ring_requests},
        {"ring_slot_bytes", plan.ring_slot_bytes},
        {"predicted_pass_ms", plan.predicted_pass_ms}}},
      {"memory", memory_json(session.memory())},
      {"generation",
       {{"prompt_tokens", stats.prompt_tokens},
        {"generated_tokens", stats.generated_tokens},
        {"prefill_passes", stats.prefill_passes},
        {"decode_passes", stats.decode_passes},
        {"prefill_ms", stats.prefill_ms},
        {"decode_ms", stats.decode_ms},
        {"reused_blocks", session.reused_blocks()}}},
      {"stream", counters_json(stats.stream)},
      {"stream_total", counters_json(session.stream().counters())},
      {"disk_gb_per_s_measured", session.profile().link_gbps},
  };
}

}  // namespace

void add_session_flags(CLI::App& command, SessionFlags& flags) {
  command.add_option("--engine_dir", flags.engine_dir, "Engine folder (default engine_outputs)");
  command.add_option("--device", flags.device, "auto, cpu or cuda (default auto)");
  command.add_option("--gpu_weights_budget", flags.gpu_weights_budget,
                     "Bytes of weights kept in fast memory, as in 6G, instead of a percentage");
  command.add_option("--gpu_memory_limit", flags.gpu_memory_limit,
                     "Bytes of fast memory for weights, KV cache and scratch together, as in 24G "
                     "(default: what is free)");
  command.add_option("--prefill_chunk", flags.prefill_chunk,
                     "Token rows of a prefill pass (default: on a GPU the engine's "
                     "--max_num_tokens, else up to 512 with scratch under 256 MB)");
  command.add_option("--ring_requests", flags.ring_requests,
                     "Slots of the ring that streamed weights pass through (default: chosen)");
  add_host_threads_flag(command, flags);
  command
      .add_option("--host_share", flags.host_share,
                  "Share of what is not resident that they multiply (default: planned)")
      ->check(CLI::Range(0.0, 1.0))
      ->group("");  // for experiments
  command.add_option(
      "--verify", flags.verify,
      "Check checksums and codes of weights: first arrival, always or never, which takes "
      "damaged weights as they are (default first)");
  command.add_option("--io", flags.io, "Read with auto, uring or pread (default auto)");
  command.add_option("--direct_io", flags.direct_io,
                     "Read past the page cache: auto, on or off (default auto)");
  command.add_option("--profile", flags.profile,
                     "Machine profile to plan with (default: measured)");
  command.add_option("--trace", flags.trace, "Write a Chrome trace of every transfer and op");
  command.add_option("--stats_json", flags.stats_json, "Write plan, memory and stream counters");
}

void add_percent_flag(CLI::App& command, SessionFlags& flags, const std::string& description) {
  command.add_option("--gpu_weights_percent", flags.gpu_weights_percent, description)
      ->excludes(command.get_option("--gpu_weights_budget"));
}

void add_host_threads_flag(CLI::App& command, SessionFlags& flags) {
  command
      .add_option("--host_threads", flags.host_threads,
                  "Threads that multiply in host memory while a GPU streams, 0 for none (default: "
                  "all processors but one)")
      ->check(CLI::Range(0, 1024));
}

SessionOptions session_options(const SessionFlags& flags) {
  SessionOptions options;
  options.engine_dir = flags.engine_dir;
  options.device = flags.device;
  options.automatic_budget =
      flags.gpu_weights_budget.empty() && flags.gpu_weights_percent == "auto";
  if (!options.automatic_budget) options.budget = parse_budget(flags);
  if (!flags.gpu_memory_limit.empty()) {
    options.memory_limit = parse_bytes(flags.gpu_memory_limit, "--gpu_memory_limit");
  }
  options.prefill_chunk = flags.prefill_chunk;
  options.ring_requests = flags.ring_requests;
  options.host_threads = flags.host_threads;
  options.host_share = flags.host_share;
  options.stream.verify = parse_verify(flags.verify);
  options.stream.io = parse_io(flags.io);
  options.stream.direct = parse_direct(flags.direct_io);
  options.profile_path = flags.profile;
  return options;
}

void require_engine(const SessionFlags& flags, Context& context) {
  const std::string config = join_path(flags.engine_dir, "config.json");
  if (context.fs.exists(config)) return;
  fail(ErrorCode::kNotFound,
       "[engine] {} does not exist: --engine_dir is a folder that `headrace build` made", config);
}

double parse_number(const std::string& text, const std::string& flag) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    fail(ErrorCode::kUsage, "[{}] '{}' is not a number", flag, text);
  }
  return value;
}

void start_trace(const SessionFlags& flags, Context& context) {
  if (!flags.trace.empty()) context.trace.enable();
}

void write_reports(const SessionFlags& flags, const Session& session, Context& context) {
  write_reports(flags, session, session.stats(), context);
}

void write_reports(const SessionFlags& flags, const Session& session, const GenerationStats& stats,
                   Context& context) {
  if (flags.trace.empty() && flags.stats_json.empty()) return;
  session.stream().wait_idle();
  if (!flags.trace.empty()) context.trace.write(context.fs, flags.trace);
  if (!flags.stats_json.empty()) {
    write_text_file(context.fs, flags.stats_json, stats_json(session, stats).dump(2) + "\n");
  }
}

std::string streaming_summary(const Session& session) {
  return streaming_summary(session, session.stats());
}

std::string streaming_summary(const Session& session, const GenerationStats& stats) {
  const StreamCounters& stream = stats.stream;
  if (stream.passes == 0 || stream.payload_bytes == 0) return "";
  const double seconds = (stats.prefill_ms + stats.decode_ms) / 1e3;
  const double gbps = static_cast<double>(stream.payload_bytes) / seconds / 1e9;
  const double disk = session.profile().link_gbps;
  return fmt::format(
      "streamed {} a pass over {} passes at {:.2f} GB/s, {:.0f} % of the measured disk's {:.2f} "
      "GB/s",
      format_bytes(stream.payload_bytes / static_cast<uint64_t>(stream.passes)), stream.passes,
      gbps, disk > 0 ? 100 * gbps / disk : 0, disk);
}

}  // namespace headrace::app
