#include "headrace/bench_engine.h"

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/format.h"
#include "base/log.h"
#include "checkpoint/convert.h"
#include "engine/builder.h"
#include "engine/engine_reader.h"

namespace headrace::app {
namespace {

constexpr uint64_t kWeightsSeed = 0;

void remove_folder(const std::string& path) {
  std::error_code ignored;  // a checkpoint that stays behind is not worth an error
  std::filesystem::remove_all(path, ignored);
}

}  // namespace

std::string family_name(const std::string& architecture) {
  constexpr std::string_view kEnding = "ForCausalLM";
  std::string name = architecture;
  if (name.ends_with(kEnding)) name.resize(name.size() - kEnding.size());
  std::transform(name.begin(), name.end(), name.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return name;
}

BuildConfig preset_build_config(const BenchPreset& preset, const BenchEngineFlags& flags,
                                const std::vector<int64_t>& batch_sizes,
                                const std::vector<InputOutputLength>& lengths) {
  BuildConfig config = preset.build;
  for (const int64_t size : batch_sizes)
    config.max_batch_size = std::max(config.max_batch_size, size);
  const int64_t positions = preset.model.max_position_embeddings;
  for (const InputOutputLength& length : lengths) {
    if (length.input + length.output > positions) continue;  // the case will be skipped
    config.max_input_len = std::max(config.max_input_len, length.input);
    config.max_seq_len = std::max(config.max_seq_len, length.input + length.output);
  }
  config.max_beam_width = std::max(config.max_beam_width, flags.num_beams);
  config.max_batch_size = flags.max_batch_size.value_or(config.max_batch_size);
  config.max_input_len = flags.max_input_len.value_or(config.max_input_len);
  config.max_seq_len = flags.max_seq_len.value_or(config.max_seq_len);
  config.max_num_tokens = flags.max_num_tokens.value_or(config.max_num_tokens);
  if (!flags.tile_bytes.empty()) config.tile_bytes = parse_bytes(flags.tile_bytes, "--tile_bytes");
  if (!flags.tile_codec.empty()) config.tile_codec = flags.tile_codec;
  if (!flags.canonical_rows.empty()) {
    config.canonical_rows = parse_canonical_rows(flags.canonical_rows);
  }
  return config;
}

BenchEngine::BenchEngine(const BenchEngineFlags& flags, const std::vector<int64_t>& batch_sizes,
                         const std::vector<InputOutputLength>& lengths, Context& context) {
  if (flags.engine_dir.empty() == flags.model.empty()) {
    fail(ErrorCode::kUsage, "[bench] pass --engine_dir ENGINE, or --model with one of {}",
         bench_preset_names());
  }
  if (flags.model.empty()) {
    open(flags, context);
    return;
  }
  const DType dtype = parse_dtype(flags.dtype.empty() ? "float16" : flags.dtype, "--dtype");
  BenchPreset preset = find_bench_preset(flags.model, dtype);
  preset.build = resolve_build_config(preset_build_config(preset, flags, batch_sizes, lengths),
                                      preset.model, context.log);
  make(flags, preset, context);
}

void BenchEngine::open(const BenchEngineFlags& flags, Context& context) {
  const Engine engine = Engine::open(context.fs, flags.engine_dir);
  directory = flags.engine_dir;
  model = engine.model();
  build = engine.build();
  model_name = family_name(model.architecture);
  if (!flags.dtype.empty() && parse_dtype(flags.dtype, "--dtype") != model.dtype) {
    context.log.warning("[bench] --dtype {}: the engine was built with {}", flags.dtype,
                        dtype_name(model.dtype));
  }
  if (flags.max_batch_size || flags.max_input_len || flags.max_seq_len ||
      !flags.tile_bytes.empty() || !flags.tile_codec.empty() || !flags.canonical_rows.empty()) {
    context.log.warning("[bench] the limits that {} was built with count, not those given",
                        directory);
  }
}

void BenchEngine::make(const BenchEngineFlags& flags, const BenchPreset& preset, Context& context) {
  const int64_t start_ns = context.clock.now_ns();
  model_name = preset.name;
  model = preset.model;
  build = preset.build;
  if (flags.output_dir.empty()) {
    synthetic = {
        .name = preset.name, .model = preset.model, .build = preset.build, .seed = kWeightsSeed};
    Engine::synthetic(*synthetic);  // as every session will
  } else {
    directory = flags.output_dir;
    context.fs.create_directories(directory);
    const std::string checkpoint = join_path(directory, "checkpoint");
    try {
      make_checkpoint(preset.model, kWeightsSeed, checkpoint, context);
      build_engine(checkpoint, directory, preset.build, context);
    } catch (...) {
      remove_folder(checkpoint);
      throw;
    }
    remove_folder(checkpoint);
  }
  build_seconds = static_cast<double>(context.clock.now_ns() - start_ns) / 1e9;
}

}  // namespace headrace::app
