#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <system_error>

#include <fmt/ranges.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/format.h"
#include "base/log.h"
#include "base/progress.h"
#include "headrace/bench_cases.h"
#include "headrace/bench_engine.h"
#include "headrace/bench_report.h"
#include "headrace/generation_totals.h"
#include "headrace/ignored_flags.h"
#include "headrace/kv_flags.h"
#include "headrace/peak_memory.h"
#include "headrace/sampling_flags.h"
#include "headrace/session_flags.h"
#include "sampling/philox.h"

namespace headrace::app {
namespace {

constexpr double kGiga = 1e9;

struct BenchFlags {
  BenchFlags() { session.engine_dir.clear(); }  // an engine that exists is one of two choices

  SessionFlags session;
  BenchEngineFlags engine;
  KvFlags kv;
  std::string batch_size = "8";
  std::string input_output_len = "128,20";
  std::string gpu_weights_percent = "1.0";
  SamplingParams sampling;
  int32_t num_beams = 1;  // 1: no beam search
  int64_t warm_up = 2;
  int64_t num_runs = 10;
  double duration_s = 60;
  bool csv = false;
  bool build_only = false;
};

/// The lists of a benchmark, parsed.
struct BenchLists {
  std::vector<InputOutputLength> lengths;
  std::vector<int64_t> batch_sizes;
  std::vector<double> percents;
};

BenchLists parse_lists(const BenchFlags& flags) {
  if (flags.warm_up < 0 || flags.num_runs < 1 || !(flags.duration_s >= 0) ||
      std::isinf(flags.duration_s)) {
    fail(ErrorCode::kInvalidArgument,
         "[bench] --warm_up {} --num_runs {} --duration {}: use at least 0, 1 and 0, and a "
         "duration that ends",
         flags.warm_up, flags.num_runs, flags.duration_s);
  }
  if (flags.engine.max_num_tokens && *flags.engine.max_num_tokens < 1) {
    fail(ErrorCode::kInvalidArgument, "[bench] --max_num_tokens {}: use 1 or more",
         *flags.engine.max_num_tokens);
  }
  if (!flags.session.gpu_weights_budget.empty()) {
    fail(ErrorCode::kInvalidArgument,
         "[bench] --gpu_weights_budget: a benchmark takes a list of shares, --gpu_weights_percent");
  }
  validate_sampling_params(flags.sampling);
  validate_beam_search_options(BeamFlags{.num_beams = flags.num_beams}.options());
  return {.lengths = parse_lengths(flags.input_output_len),
          .batch_sizes = parse_counts(flags.batch_size, "--batch_size"),
          .percents = parse_percents(flags.gpu_weights_percent)};
}

/// Prompts of random tokens, the same for every case of equal shape.
std::vector<GenerationRequest> random_requests(int64_t batch_size, const InputOutputLength& length,
                                               const BenchFlags& flags, int64_t vocab_size) {
  std::vector<GenerationRequest> requests(static_cast<size_t>(batch_size));
  for (size_t i = 0; i < requests.size(); ++i) {
    requests[i].max_new_tokens = length.output;
    requests[i].sampling = flags.sampling;
    requests[i].beams = BeamFlags{.num_beams = flags.num_beams}.options();
    requests[i].prompt.resize(static_cast<size_t>(length.input));
    for (size_t at = 0; at < requests[i].prompt.size(); ++at) {
      const double random = uniform_at(/*seed=*/i, /*position=*/at);
      requests[i].prompt[at] = static_cast<int32_t>(random * static_cast<double>(vocab_size));
    }
  }
  return requests;
}

/// What the plan and the machine's profile say that a run takes.
double predicted_latency_ms(const Session& session, int64_t batch_size,
                            const InputOutputLength& length) {
  const Plan& plan = session.plan();
  const MachineProfile& profile = session.profile();
  const auto weights = static_cast<double>(plan.streamable_bytes);
  const double parameters =
      weights / static_cast<double>(dtype_size(session.engine().model().dtype));
  double ms = static_cast<double>(length.output - 1) * plan.predicted_pass_ms;
  for (int64_t left = batch_size * length.input; left > 0; left -= session.prefill_chunk()) {
    const auto rows = static_cast<double>(std::min(left, session.prefill_chunk()));
    double seconds = 0;
    if (profile.link_gbps > 0) {
      seconds = static_cast<double>(plan.streamed_bytes) / (profile.link_gbps * kGiga);
    }
    if (profile.memory_gbps > 0)
      seconds = std::max(seconds, weights / (profile.memory_gbps * kGiga));
    if (profile.matmul_gflops > 0) {
      seconds = std::max(seconds, 2 * parameters * rows / (profile.matmul_gflops * kGiga));
    }
    ms += 1e3 * seconds;
  }
  return ms;
}

/// Adds a line to a file, all of it or nothing.
void append_line(const std::string& path, const std::string& line) {
  std::error_code absent;
  const auto old_size = std::filesystem::file_size(path, absent);
  std::ofstream file(path, std::ios::app);
  if (file << line << "\n" << std::flush) return;
  file.close();  // which tries to write what is left
  std::error_code ignored;
  if (absent) {
    std::filesystem::remove(path, ignored);
  } else {
    std::filesystem::resize_file(path, old_size, ignored);
  }
  fail(ErrorCode::kIo, "[bench] {} cannot be written: run it in a folder that can", path);
}

/// Runs one engine over lists of cases, and prints and appends a report for each.
class Bench {
 public:
  Bench(const BenchFlags& flags, const BenchEngine& engine, Context& context)
      : flags_(flags), engine_(engine), context_(context) {}

  void run(const BenchLists& lists) {
    const BuildConfig& build = engine_.build;
    for (const InputOutputLength& length : lists.lengths) {
      if (skip(too_long(length, build))) continue;
      for (const int64_t batch_size : lists.batch_sizes) {
        if (skip(too_many(batch_size, build))) continue;
        run_batch_size(length, batch_size, lists.percents);
      }
    }
  }

 private:
  static bool skip(const std::optional<std::string>& reason) {
    if (!reason) return false;
    std::printf("[WARNING] %s\n", reason->c_str());
    std::fflush(stdout);
    return true;
  }

  void run_batch_size(const InputOutputLength& length, int64_t batch_size,
                      const std::vector<double>& percents) {
    std::unique_ptr<Session> session;
    for (const double percent : percents) {
      reset_peak_memory();
      try {
        const WeightBudget budget{.percent = percent, .bytes = {}};
        if (session == nullptr) {
          session = open_session(length, batch_size, budget);
        } else {
          session->set_budget(budget);
        }
      } catch (const Error& error) {
        if (error.code() != ErrorCode::kOutOfMemory) throw;
        skip(
            fmt::format("batch_size {}, input_output_len {},{}, gpu_weights_percent {} skipped: {}",
                        batch_size, length.input, length.output, percent, error.what()));
        session.reset();
        continue;
      }
      report_plan(*session, context_.log);
      BenchResult result{
          .length = length, .batch_size = batch_size, .percent = percent, .latencies_ms = {}};
      measure(*session, result);
      report(result);
    }
  }

  std::unique_ptr<Session> open_session(const InputOutputLength& length, int64_t batch_size,
                                        const WeightBudget& budget) {
    SessionOptions options = session_options(flags_.session);
    options.engine_dir = engine_.directory;
    options.synthetic = engine_.synthetic;
    if (options.prefill_chunk == 0) {
      options.prefill_chunk = flags_.engine.max_num_tokens.value_or(0);
    }
    options.budget = budget;
    options.limits.max_sequences = batch_size;
    options.limits.max_beam_width = flags_.num_beams;
    options.limits.max_sequence_tokens = length.input + length.output;
    apply(flags_.kv, options.limits);
    return Session::open(options, context_);
  }

  void measure(Session& session, BenchResult& result) {
    const std::vector<GenerationRequest> requests = random_requests(
        result.batch_size, result.length, flags_, session.engine().model().vocab_size);
    for (int64_t i = 0; i < flags_.warm_up; ++i) session.generate(requests);
    std::vector<GenerationResult> results;
    GenerationStats total;
    double elapsed_ms = 0;
    context_.progress.start("Benchmarking", static_cast<uint64_t>(flags_.num_runs), "runs");
    while (static_cast<int64_t>(result.latencies_ms.size()) < flags_.num_runs ||
           elapsed_ms < 1e3 * flags_.duration_s) {
      const int64_t start_ns = context_.clock.now_ns();
      results = session.generate(requests);
      result.latencies_ms.push_back(static_cast<double>(context_.clock.now_ns() - start_ns) / 1e6);
      elapsed_ms += result.latencies_ms.back();
      add_to(total, session.stats());
      context_.progress.update(
          std::min<uint64_t>(result.latencies_ms.size(), static_cast<uint64_t>(flags_.num_runs)));
    }
    context_.progress.finish();
    // The same at every percentage, as anyone can see.
    context_.log.verbose("Tokens of the first sequence: {}", fmt::join(results[0].tokens, " "));
    fill_in(session, total, elapsed_ms, result);
    write_reports(flags_.session, session, total, context_);
  }

  void fill_in(const Session& session, const GenerationStats& total, double elapsed_ms,
               BenchResult& result) const {
    const auto runs = static_cast<int64_t>(result.latencies_ms.size());
    result.generation_ms = total.decode_ms / static_cast<double>(runs);
    result.generated_tokens = (total.generated_tokens - total.prefill_tokens) / runs;
    const Backend& backend = session.backend();
    result.peak_memory_gb =
        static_cast<double>(backend.used_memory_bytes().value_or(peak_memory_bytes())) / kGiga;
    result.compute_capability = backend.compute_capability();
    const MemoryReport memory = session.memory();
    result.weights_memory_gb = static_cast<double>(memory.measured_weights_bytes.value_or(
                                   memory.weights_bytes + memory.ring_bytes)) /
                               kGiga;
    result.build_seconds = engine_.build_seconds;
    const bool decoded = total.decode_passes > 0;  // prefill may be bound by arithmetic
    result.link_gb_per_s = static_cast<double>(decoded ? total.decode_stream.payload_bytes
                                                       : total.stream.payload_bytes) /
                           ((decoded ? total.decode_ms : elapsed_ms) / 1e3) / kGiga;
    const double disk = session.profile().link_gbps;
    result.link_share = disk > 0 ? result.link_gb_per_s / disk : 0;
    report_host(decoded ? total.decode_stream : total.stream,
                decoded ? total.decode_ms : elapsed_ms,
                session.predicted_pass_ms(result.batch_size));
    result.predicted_latency_ms = predicted_latency_ms(session, result.batch_size, result.length);
  }

  void report_host(const StreamCounters& stream, double elapsed_ms, double predicted_ms) const {
    if (stream.host_busy_ns == 0) return;
    const auto busy_ns = static_cast<double>(stream.host_busy_ns);
    context_.log.info(
        "Host threads multiplied {} a pass, {:.1f} GB/s while at work, {:.0f} % of the time; by "
        "that a decode pass takes {:.1f} ms",
        format_bytes(stream.host_bytes / static_cast<uint64_t>(stream.passes)),
        static_cast<double>(stream.host_bytes) / busy_ns, busy_ns / elapsed_ms / 1e4, predicted_ms);
  }

  void report(const BenchResult& result) {
    const BenchColumns columns = bench_columns(engine_.model_name, engine_.model, result);
    if (!flags_.csv) {
      std::printf("%s\n", benchmark_line(columns).c_str());
    } else {
      if (!header_printed_) print_and_append(csv_header(columns));
      header_printed_ = true;
      print_and_append(csv_row(columns));
    }
    std::fflush(stdout);
  }

  void print_and_append(const std::string& line) const {
    std::printf("%s\n", line.c_str());
    append_line(csv_file_name(engine_.model_name, engine_.model), line);
  }

  const BenchFlags& flags_;
  const BenchEngine& engine_;
  Context& context_;
  bool header_printed_ = false;
};

int bench(const BenchFlags& flags, Context& context) {
  const BenchLists lists = parse_lists(flags);
  start_trace(flags.session, context);
  BenchEngineFlags engine_flags = flags.engine;
  engine_flags.engine_dir = flags.session.engine_dir;
  engine_flags.num_beams = flags.num_beams;
  const BenchEngine engine(engine_flags, lists.batch_sizes, lists.lengths, context);
  if (flags.build_only) return 0;
  Bench(flags, engine, context).run(lists);
  return 0;
}

void add_engine_flags(CLI::App& command, BenchEngineFlags& flags) {
  command.add_option("-m,--model", flags.model,
                     "In place of --engine_dir: random weights, made up as they are needed, in the "
                     "shape of " +
                         bench_preset_names());
  command.add_option("--dtype", flags.dtype, "Of the random engine (default float16)");
  command.add_option("--output_dir", flags.output_dir,
                     "Build the random engine in this folder, and run it from there");
  const std::string limit = "Of the random engine (default: what the cases need)";
  command.add_option("--max_batch_size", flags.max_batch_size, limit);
  command.add_option("--max_input_len", flags.max_input_len, limit);
  command.add_option("--max_seq_len", flags.max_seq_len, limit);
  command.add_option("--max_num_tokens", flags.max_num_tokens,
                     "Of the random engine, and token rows of a prefill pass");
  command.add_option("--tile_bytes", flags.tile_bytes, "Of the random engine (default 1M)");
  command.add_option("--tile_codec", flags.tile_codec,
                     "Of the random engine: auto (the default), none, e3 or e4");
  command.add_option("--canonical_rows", flags.canonical_rows,
                     "Of the random engine: a number or 'all' (default 8)");
}

}  // namespace

void add_bench_command(App& app) {
  CLI::App* command = app.cli.add_subcommand("bench", "Measure latency and tokens per second");
  auto flags = std::make_shared<BenchFlags>();  // lives as long as the callback below
  command->footer(
      "Example:\n  headrace bench --engine_dir ENGINE --batch_size \"1;8\" --input_output_len "
      "\"256,32\" --gpu_weights_percent \"0.0;0.3;1.0\" --csv\n  headrace bench -m llama_7b "
      "--batch_size 1 --gpu_weights_percent 0.2 --csv");
  add_common_flags(app, *command, "error");
  add_session_flags(*command, flags->session);
  add_engine_flags(*command, flags->engine);
  command->add_option("--batch_size", flags->batch_size, "Batch sizes, as in \"1;32\" (default 8)");
  command->add_option("--input_output_len", flags->input_output_len,
                      "Prompt and output tokens, as in \"128,20;60,20\" (default 128,20)");
  command->add_option(
      "--gpu_weights_percent", flags->gpu_weights_percent,
      "Shares of the weights kept in fast memory, as in \"0.0;0.3;1.0\" (default 1.0)");
  add_top_flags(*command, flags->sampling);
  command->add_option("--num_beams", flags->num_beams,
                      "Beams of a beam search for every prompt (default 1: none), up to the "
                      "engine's --max_beam_width");
  command->add_option("--warm_up", flags->warm_up, "Runs before the first that counts (default 2)");
  command->add_option("--num_runs", flags->num_runs, "Runs at least (default 10)");
  command->add_option("--duration", flags->duration_s, "Seconds of runs at least (default 60)");
  command->add_flag("--csv", flags->csv, "Print CSV, and append it to MODEL_DTYPE_..._sm0.csv");
  command->add_flag("--build_only", flags->build_only,
                    "Build the random engine of --output_dir and stop");
  add_kv_memory_flag(*command, flags->kv);
  accept_options(*command, {"--mode", "--quantization"});
  accept_switches(*command, {"--enable_cuda_graph", "--strongly_typed", "--dump_profile",
                             "--serial_build", "--use_py_session"});
  command->final_callback(
      [&app, flags] { app.body = [flags](Context& context) { return bench(*flags, context); }; });
}

}  // namespace headrace::app
