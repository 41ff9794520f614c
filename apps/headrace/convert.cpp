#include "checkpoint/convert.h"

#include <array>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "base/format.h"
#include "headrace/app.h"

namespace headrace::app {
namespace {

constexpr const char* kExample = R"(Examples:
  headrace convert --model_dir llama-7b-hf/ --output_dir tllm_checkpoint --dtype float16
  headrace convert --model_dir model.Q8_0.gguf --output_dir tllm_checkpoint
  headrace convert --random_weights 1 --n_layer 16 --n_embd 2048 --inter_size 5632)";

/// Flags that give a model its shape where there is no model.
constexpr std::array kShapeFlags = {"--vocab_size", "--n_positions",   "--n_layer",
                                    "--n_head",     "--n_kv_head",     "--n_embd",
                                    "--inter_size", "--rms_norm_eps",  "--rotary_base",
                                    "--hidden_act", "--random_weights"};

struct ConvertFlags {
  std::string model_dir;
  std::string output_dir = "tllm_checkpoint";
  std::string dtype = "auto";
  int tp_size = 1;
  int pp_size = 1;
  int workers = 1;
  bool use_weight_only = false;
  bool load_by_shard = false;
  std::string weight_only_precision = "int8";
  std::optional<uint64_t> random_weights;
  std::optional<int64_t> n_kv_head;
  std::optional<int64_t> head_size;
  bool attention_bias = false;
  std::vector<std::string> rotary_scaling;
  ModelConfig shape;
};

void refuse_what_is_not_there(const ConvertFlags& flags) {
  if (flags.tp_size != 1 || flags.pp_size != 1) {
    fail(ErrorCode::kUnsupported, "[convert] --tp_size {} --pp_size {}: 1 and 1 work",
         flags.tp_size, flags.pp_size);
  }
  if (flags.use_weight_only) {
    fail(ErrorCode::kUnsupported,
         "[convert] --use_weight_only: weights are never quantised here; leave it out");
  }
}

std::optional<DType> chosen_dtype(const ConvertFlags& flags) {
  if (flags.dtype == "auto") return {};
  return parse_dtype(flags.dtype, "--dtype");
}

int64_t head_size(const ConvertFlags& flags) {
  if (flags.head_size) return *flags.head_size;
  const ModelConfig& shape = flags.shape;
  if (shape.num_attention_heads < 1 || shape.hidden_size % shape.num_attention_heads != 0) {
    fail(ErrorCode::kInvalidArgument,
         "[convert] --n_embd {} is not a multiple of --n_head {}: choose a divisor, or give "
         "--head_size",
         shape.hidden_size, shape.num_attention_heads);
  }
  return shape.hidden_size / shape.num_attention_heads;
}

RopeScaling rotary_scaling(const ConvertFlags& flags) {
  RopeScaling scaling;
  if (flags.rotary_scaling.empty()) return scaling;
  const std::string& type = flags.rotary_scaling[0];
  const std::string& factor = flags.rotary_scaling[1];
  if (type != "linear" && type != "llama3") {
    fail(ErrorCode::kInvalidArgument, "[convert] --rotary_scaling {}: linear and llama3 work",
         type);
  }
  scaling.kind = type == "linear" ? RopeScaling::Kind::kLinear : RopeScaling::Kind::kLlama3;
  if (!CLI::detail::lexical_cast(factor, scaling.factor)) {
    fail(ErrorCode::kInvalidArgument, "[convert] --rotary_scaling {} {}: give a number", type,
         factor);
  }
  return scaling;
}

/// A model of the shape that the flags give.
ConvertReport make_model(ConvertFlags& flags, Context& context) {
  ModelConfig& shape = flags.shape;
  shape.dtype = chosen_dtype(flags).value_or(DType::kFloat16);
  shape.num_key_value_heads = flags.n_kv_head.value_or(shape.num_attention_heads);
  shape.head_size = head_size(flags);
  shape.qkv_bias = shape.dense_bias = flags.attention_bias;
  shape.rotary_scaling = rotary_scaling(flags);
  if (!flags.random_weights) {
    context.log.warning("No --model_dir: all weights are zero (--random_weights SEED fills them)");
  }
  return make_checkpoint(shape, flags.random_weights, flags.output_dir, context);
}

void tell(const ConvertReport& report, const ConvertFlags& flags, Log& log) {
  log.info("{}: {} tensors, {} of {}", flags.output_dir, report.tensors, format_bytes(report.bytes),
           dtype_name(report.config.dtype));
  if (report.narrowed_values == 0) return;
  const Narrowing& narrowing = report.narrowing;
  const auto level = narrowing.overflowed > 0 ? LogLevel::kWarning : LogLevel::kInfo;
  const std::string line =
      fmt::format("Rounded {} values to {}: {} overflowed to infinity, {} were flushed to zero",
                  report.narrowed_values, dtype_name(report.config.dtype), narrowing.overflowed,
                  narrowing.flushed);
  if (level == LogLevel::kWarning) {
    log.warning("{} (--dtype bfloat16 and float32 have the range)", line);
  } else {
    log.info("{}", line);
  }
}

int convert(ConvertFlags& flags, bool shape_given, Context& context) {
  const int64_t start_ns = context.clock.now_ns();
  refuse_what_is_not_there(flags);
  if (flags.workers != 1 || flags.load_by_shard) {
    context.log.info("--workers and --load_by_shard change nothing: one pass, in small pieces");
  }
  if (!flags.model_dir.empty() && shape_given) {
    fail(ErrorCode::kUsage,
         "[convert] --model_dir together with a model's shape or --random_weights: give one");
  }
  const ConvertReport report =
      flags.model_dir.empty()
          ? make_model(flags, context)
          : convert_model(flags.model_dir, flags.output_dir, chosen_dtype(flags), context);
  tell(report, flags, context.log);
  const double seconds = static_cast<double>(context.clock.now_ns() - start_ns) * 1e-9;
  std::printf("Total time of converting checkpoints: %s\n", format_duration(seconds).c_str());
  return 0;
}

void add_shape_flags(CLI::App& command, ConvertFlags& flags) {
  ModelConfig& shape = flags.shape;
  shape.vocab_size = 32000;
  shape.max_position_embeddings = 2048;
  shape.num_hidden_layers = 32;
  shape.num_attention_heads = 32;
  shape.hidden_size = 4096;
  shape.intermediate_size = 11008;
  shape.norm_epsilon = 1e-6;
  const auto add = [&](const char* name, auto& value, const char* what) {
    command.add_option(name, value, what)->capture_default_str()->group("Without --model_dir");
  };
  add("--vocab_size", shape.vocab_size, "Tokens in the vocabulary");
  add("--n_positions", shape.max_position_embeddings, "Positions");
  add("--n_layer", shape.num_hidden_layers, "Layers");
  add("--n_head", shape.num_attention_heads, "Attention heads");
  add("--n_kv_head", flags.n_kv_head, "Key and value heads (default: --n_head)");
  add("--n_embd", shape.hidden_size, "Hidden size");
  add("--inter_size", shape.intermediate_size, "Intermediate size");
  add("--rms_norm_eps", shape.norm_epsilon, "Epsilon of the norms");
  add("--rotary_base", shape.rotary_base, "Base of the rotary frequencies");
  add("--hidden_act", shape.hidden_act, "Activation: silu");
  add("--head_size", flags.head_size, "Size of a head (default: --n_embd / --n_head)");
  const auto add_switch = [&](const char* name, bool& value, const char* what) {
    command.add_flag(name, value, what)->group("Without --model_dir");
  };
  add_switch("--attention_bias", flags.attention_bias, "Biases in attention");
  add_switch("--mlp_bias", shape.mlp_bias, "Biases in the MLP");
  add_switch("--tie_word_embeddings", shape.tie_word_embeddings, "No head of its own");
  command.add_option("--rotary_scaling", flags.rotary_scaling, "linear or llama3, and the factor")
      ->expected(2)
      ->type_name("TYPE FACTOR")
      ->group("Without --model_dir");
  add("--random_weights", flags.random_weights, "Seed of random weights (default: all zero)");
}

}  // namespace

void add_convert_command(App& app) {
  CLI::App* command = app.cli.add_subcommand("convert", "Convert a model to a checkpoint");
  command->footer(kExample);
  const auto flags = std::make_shared<ConvertFlags>();  // shared with the callback, which is copied
  command->add_option("--model_dir", flags->model_dir,
                      "Hugging Face folder with safetensors, or a GGUF file");
  command->add_option("--output_dir", flags->output_dir, "Folder for the checkpoint")
      ->capture_default_str();
  command->add_option("--dtype", flags->dtype, "Type of the weights; auto: the model's own")
      ->check(CLI::IsMember({"auto", "float16", "bfloat16", "float32"}))
      ->capture_default_str();
  command->add_option("--tp_size", flags->tp_size, "Ranks of tensor parallelism: 1");
  command->add_option("--pp_size", flags->pp_size, "Ranks of pipeline parallelism: 1");
  command->add_flag("--use_weight_only", flags->use_weight_only, "Not supported");
  command->add_option("--weight_only_precision", flags->weight_only_precision, "int8 or int4")
      ->check(CLI::IsMember({"int8", "int4"}));
  command->add_flag("--load_by_shard", flags->load_by_shard, "Accepted: it always does");
  command->add_option("--workers", flags->workers, "Accepted: one process converts")
      ->check(CLI::Range(1, 1024));
  add_shape_flags(*command, *flags);
  add_common_flags(app, *command);
  command->final_callback([&app, flags, command] {
    bool shape_given = false;
    for (const char* name : kShapeFlags) shape_given = shape_given || command->count(name) > 0;
    app.body = [flags, shape_given](Context& context) {
      return convert(*flags, shape_given, context);
    };
  });
}

}  // namespace headrace::app
