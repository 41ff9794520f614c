#include "headrace/bench_engine.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "checkpoint/convert.h"
#include "engine/builder.h"
#include "engine/engine_reader.h"

namespace headrace::app {
namespace {

constexpr uint64_t kWeightsSeed = 0;

/// A fresh folder among the system's temporary files.
std::string make_temporary_folder() {
  const char* base = std::getenv("TMPDIR");
  std::string path = join_path(base == nullptr ? "/tmp" : base, "headrace_bench_XXXXXX");
  if (::mkdtemp(path.data()) == nullptr) {
    fail_io("bench", "create a folder", path, errno);
  }
  return path;
}

void remove_folder(const std::string& path) {
  std::error_code ignored;  // a temporary folder that stays behind is not worth an error
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
  config.max_batch_size = flags.max_batch_size.value_or(config.max_batch_size);
  config.max_input_len = flags.max_input_len.value_or(config.max_input_len);
  config.max_seq_len = flags.max_seq_len.value_or(config.max_seq_len);
  return config;
}

BenchEngine::BenchEngine(const BenchEngineFlags& flags, const std::vector<int64_t>& batch_sizes,
                         const std::vector<InputOutputLength>& lengths, Context& context) {
  if (flags.engine_dir.empty() == flags.model.empty()) {
    fail(ErrorCode::kUsage, "[bench] pass --engine_dir ENGINE, or --model with one of {}",
         bench_preset_names());
  }
  try {
    if (!flags.model.empty()) {
      const DType dtype = parse_dtype(flags.dtype.empty() ? "float16" : flags.dtype, "--dtype");
      BenchPreset preset = find_bench_preset(flags.model, dtype);
      preset.build = preset_build_config(preset, flags, batch_sizes, lengths);
      build_preset(flags, preset, context);
    } else {
      directory = flags.engine_dir;
    }
    const Engine engine = Engine::open(context.fs, directory);
    model = engine.model();
    build = engine.build();
  } catch (...) {
    if (!temporary_.empty()) remove_folder(temporary_);
    throw;
  }
  model_name = flags.model.empty() ? family_name(model.architecture) : flags.model;
  if (!flags.dtype.empty() && parse_dtype(flags.dtype, "--dtype") != model.dtype) {
    context.log.warning("[bench] --dtype {}: the engine was built with {}", flags.dtype,
                        dtype_name(model.dtype));
  }
}

BenchEngine::~BenchEngine() {
  if (!temporary_.empty()) remove_folder(temporary_);
}

void BenchEngine::build_preset(const BenchEngineFlags& flags, const BenchPreset& preset,
                               Context& context) {
  const int64_t start_ns = context.clock.now_ns();
  const bool keep = !flags.output_dir.empty();
  if (!keep) temporary_ = make_temporary_folder();
  directory = keep ? flags.output_dir : join_path(temporary_, "engine");
  if (keep) context.fs.create_directories(directory);
  const std::string checkpoint = join_path(keep ? directory : temporary_, "checkpoint");
  try {
    make_checkpoint(preset.model, kWeightsSeed, checkpoint, context);
    build_engine(checkpoint, directory, preset.build, context);
  } catch (...) {
    remove_folder(checkpoint);
    throw;
  }
  remove_folder(checkpoint);
  build_seconds = static_cast<double>(context.clock.now_ns() - start_ns) / 1e9;
}

}  // namespace headrace::app
