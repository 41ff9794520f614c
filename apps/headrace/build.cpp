#include <array>
#include <cstdio>
#include <map>
#include <memory>
#include <optional>
#include <ranges>
#include <string>

#include <fmt/ranges.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/format.h"
#include "engine/builder.h"
#include "headrace/app.h"

namespace headrace::app {
namespace {

constexpr const char* kExample = R"(Example:
  headrace build --checkpoint_dir tllm_checkpoint --output_dir engine_outputs \
      --weight_streaming --gemm_plugin disable \
      --max_batch_size 128 --max_input_len 512 --max_seq_len 562)";

/// Switches of upstream that choose nothing here.
constexpr std::array kPluginSwitches = {"--gpt_attention_plugin", "--context_fmha",
                                        "--paged_kv_cache", "--remove_input_padding"};

struct BuildFlags {
  std::string checkpoint_dir;
  std::string output_dir = "engine_outputs";
  std::string tile_bytes = "1M";
  std::string canonical_rows = "8";
  std::optional<int64_t> max_seq_len;
  int workers = 1;
  std::array<std::string, kPluginSwitches.size()> switches;
  BuildConfig config;
};

void warn_about_switches(const BuildFlags& flags, Log& log) {
  std::string given;
  for (size_t i = 0; i < kPluginSwitches.size(); ++i) {
    if (flags.switches[i].empty()) continue;
    given +=
        fmt::format("{}{} {}", given.empty() ? "" : ", ", kPluginSwitches[i], flags.switches[i]);
  }
  if (!given.empty()) log.warning("{}: accepted, has no meaning here", given);
}

std::string alone_text(const std::map<std::string, double>& codec_shares) {
  if (codec_shares.size() < 2) return "";  // that is the one just said
  std::string text;
  for (const auto& [codec, share] : codec_shares) {
    text += fmt::format("{} {} {:.3f}", text.empty() ? ";" : ",", codec, share);
  }
  return text + " alone";
}

/// What the tile code saves, and what each codec would by itself.
std::string coded_text(const BuildReport& report) {
  if (report.codec_shares.empty()) return "";
  if (report.payload_bytes == report.streamable_bytes) {
    return fmt::format(" (no smaller in {})",
                       fmt::join(std::views::keys(report.codec_shares), " or "));
  }
  const double share =
      static_cast<double>(report.payload_bytes) / static_cast<double>(report.streamable_bytes);
  return fmt::format(" coded in {} ({:.3f} of them{})", format_bytes(report.payload_bytes), share,
                     alone_text(report.codec_shares));
}

int build(BuildFlags& flags, Context& context) {
  const int64_t start_ns = context.clock.now_ns();
  warn_about_switches(flags, context.log);
  flags.config.tile_bytes = parse_bytes(flags.tile_bytes, "--tile_bytes");
  flags.config.canonical_rows = parse_canonical_rows(flags.canonical_rows);
  if (flags.max_seq_len) {
    if (*flags.max_seq_len < 1) {
      fail(ErrorCode::kInvalidArgument, "[build] --max_seq_len {}: use a whole number from 1",
           *flags.max_seq_len);
    }
    flags.config.max_seq_len = *flags.max_seq_len;
  }
  const BuildReport report =
      build_engine(flags.checkpoint_dir, flags.output_dir, flags.config, context);
  context.log.info("{}: {} matrices in {} tiles, {} of streamable weights{}, {} on disk",
                   flags.output_dir, report.matrices, report.tiles,
                   format_bytes(report.streamable_bytes), coded_text(report),
                   format_bytes(report.file_bytes));
  const double seconds = static_cast<double>(context.clock.now_ns() - start_ns) * 1e-9;
  std::printf("Total time of building all engines: %s\n", format_duration(seconds).c_str());
  return 0;
}

void add_limits(CLI::App& command, BuildFlags& flags) {
  BuildConfig& config = flags.config;
  command.add_option("--max_batch_size", config.max_batch_size, "Sequences in a pass")
      ->capture_default_str();
  command.add_option("--max_input_len", config.max_input_len, "Tokens of a prompt")
      ->capture_default_str();
  command.add_option("--max_seq_len", flags.max_seq_len,
                     "Prompt and output (default: the model's)");
  command.add_option("--max_num_tokens", config.max_num_tokens, "Token rows in a pass")
      ->capture_default_str();
  command.add_option("--max_beam_width", config.max_beam_width, "Beams of a sequence")
      ->capture_default_str();
  command
      .add_option("--tokens_per_block", config.tokens_per_block,
                  "Positions in a block of the KV cache")
      ->capture_default_str();
}

}  // namespace

void add_build_command(App& app) {
  CLI::App* command = app.cli.add_subcommand("build", "Build an engine of a checkpoint");
  command->footer(kExample);
  const auto flags = std::make_shared<BuildFlags>();  // shared with the callback, which is copied
  BuildConfig& config = flags->config;
  command
      ->add_option("--checkpoint_dir", flags->checkpoint_dir,
                   "Folder that 'headrace convert' wrote")
      ->required();
  command->add_option("--output_dir", flags->output_dir, "Folder for the engine")
      ->capture_default_str();
  command->add_flag("--weight_streaming,--weight-streaming", config.weight_streaming,
                    "Allow --gpu_weights_percent below 1 at run time");
  command
      ->add_option("--gemm_plugin", config.plugins.gemm_plugin,
                   "auto, float16, float32, bfloat16, fp8 or disable; only disable can stream")
      ->capture_default_str();
  add_limits(*command, *flags);
  command->add_flag("--strongly_typed", config.strongly_typed, "Accepted: every engine is");
  command->add_flag("--gather_context_logits", config.gather_context_logits,
                    "Accepted: every engine can give logits");
  command->add_flag("--gather_generation_logits", config.gather_generation_logits,
                    "Accepted: every engine can give logits");
  command
      ->add_option("--tile_bytes", flags->tile_bytes,
                   "Size of a tile, nearly: the unit that stays or streams")
      ->capture_default_str();
  command
      ->add_option("--tile_codec", config.tile_codec,
                   "Lossless code of the weights: auto (the smallest for them), none, e3 or e4")
      ->capture_default_str();
  command
      ->add_option("--canonical_rows", flags->canonical_rows,
                   "Token rows of the largest pass that a GPU computes in the canonical order, or "
                   "'all' (the CPU always does)")
      ->capture_default_str();
  for (size_t i = 0; i < kPluginSwitches.size(); ++i) {
    command->add_option(kPluginSwitches[i], flags->switches[i], "Accepted, has no meaning here");
  }
  command->add_option("--workers", flags->workers, "Accepted: one process builds")
      ->check(CLI::Range(1, 1024));
  add_common_flags(app, *command);
  command->final_callback(
      [&app, flags] { app.body = [flags](Context& context) { return build(*flags, context); }; });
}

}  // namespace headrace::app
