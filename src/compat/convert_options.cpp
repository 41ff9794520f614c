#include <array>
#include <charconv>
#include <cstdlib>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "base/error.h"
#include "compat/convert.h"
#include "compat/lent_tensor.h"
#include "tensorrt_llm/common/logger.h"

namespace headrace::compat {
namespace {

using tensorrt_llm::common::Logger;

void log_line(LogLevel level, std::string_view line) {
  Logger::Level as = Logger::ERROR;
  if (level == LogLevel::kVerbose) as = Logger::DEBUG;
  if (level == LogLevel::kInfo) as = Logger::INFO;
  if (level == LogLevel::kWarning) as = Logger::WARNING;
  Logger::getLogger()->log(as, std::string(line));
}

LentTensor lend_logits(const LogitsStep& step) {
  const auto beams = static_cast<int64_t>(step.tokens.size());
  const auto size = static_cast<int64_t>(step.logits.size());
  return {step.logits.data(), {1, beams, size / beams}};
}

tle::BeamTokens beam_tokens(const LogitsStep& step) {
  tle::BeamTokens tokens;
  for (const std::span<const int32_t> beam : step.tokens)
    tokens.emplace_back(beam.begin(), beam.end());
  return tokens;
}

/// Empty stays empty, for the executor to refuse.
LogitsProcessor to_processor(tle::LogitsPostProcessor processor) {
  if (processor == nullptr) return nullptr;
  return [processor = std::move(processor)](const LogitsStep& step) {
    const LentTensor lent = lend_logits(step);
    tle::Tensor logits = lent.handle();
    processor(step.request_id, logits, beam_tokens(step), nullptr, step.client_id);
  };
}

BatchedLogitsProcessor to_processor(tle::LogitsPostProcessorBatched processor) {
  return [processor = std::move(processor)](std::span<const LogitsStep> steps) {
    std::vector<tle::IdType> ids;
    std::vector<LentTensor> lent;
    std::vector<tle::Tensor> logits;
    std::vector<tle::BeamTokens> tokens;
    std::vector<std::optional<tle::IdType>> clients;
    for (const LogitsStep& step : steps) {
      ids.push_back(step.request_id);
      logits.push_back(lent.emplace_back(lend_logits(step)).handle());
      tokens.push_back(beam_tokens(step));
      clients.push_back(step.client_id);
    }
    processor(ids, logits, {tokens.begin(), tokens.end()}, nullptr, clients);
  };
}

void check_parallel(const std::optional<tle::ParallelConfig>& config) {
  if (!config) return;
  for (const auto& ids : {config->getDeviceIds(), config->getParticipantIds()}) {
    if (ids && ids->size() > 1) {
      fail(ErrorCode::kUnsupported,
           "[executor] {} devices or participants: one is supported, in this process", ids->size());
    }
  }
  const auto devices = config->getDeviceIds();
  if (devices && !devices->empty() && devices->front() != 0) {
    TLLM_LOG_WARNING("Device %d: the first visible one is used; CUDA_VISIBLE_DEVICES chooses it",
                     devices->front());
  }
}

void check_decoding(const std::optional<tle::DecodingConfig>& config) {
  if (!config) return;
  const auto mode = config->getDecodingMode();
  if (config->getLookaheadDecodingConfig() || config->getMedusaChoices() ||
      (mode && (mode->isMedusa() || mode->isLookahead() || mode->isExplicitDraftTokens()))) {
    fail(ErrorCode::kUnsupported,
         "[executor] speculative decoding is not supported: use DecodingMode::Auto()");
  }
}

void warn_of_debug(const std::optional<tle::DebugConfig>& config) {
  if (!config) return;
  for (const std::string& name : config->getDebugTensorNames()) {
    TLLM_LOG_WARNING("Debug tensor %s: there is none of this name, it is not dumped", name);
  }
  if (config->getDumpInputTensors() || config->getDumpOutputTensors()) {
    TLLM_LOG_WARNING("Tensors are not dumped: request context or generation logits instead");
  }
}

void check_config(const tle::ExecutorConfig& config) {
  check_parallel(config.getParallelConfig());
  check_decoding(config.getDecodingConfig());
  warn_of_debug(config.getDebugConfig());
  const tle::KvCacheConfig kv_cache = config.getKvCacheConfig();
  if (kv_cache.getSinkTokenLength().value_or(0) > 0) {
    fail(ErrorCode::kUnsupported, "[executor] sinkTokenLength {}: sink tokens are not supported",
         *kv_cache.getSinkTokenLength());
  }
  if (kv_cache.getHostCacheSize().value_or(0) > 0) {
    TLLM_LOG_WARNING("hostCacheSize has no meaning here");
  }
  if (config.getPeftCacheConfig()) TLLM_LOG_WARNING("peftCacheConfig has no meaning here");
  if (config.getBatchingType() == tle::BatchingType::kSTATIC) {
    TLLM_LOG_WARNING("Static batching: requests are batched in flight all the same");
  }
}

KvCacheOptions to_kv_cache(const tle::KvCacheConfig& config) {
  KvCacheOptions options;
  options.max_tokens = config.getMaxTokens();
  if (config.getFreeGpuMemoryFraction()) {
    options.free_memory_fraction = as_written(*config.getFreeGpuMemoryFraction());
  }
  options.enable_block_reuse = config.getEnableBlockReuse();
  return options;
}

void add_processors(const tle::ExecutorConfig& config, ExecutorOptions& options) {
  if (auto map = config.getLogitsPostProcessorMap()) {
    for (auto& [name, processor] : *map) {
      options.logits_processors[name] = to_processor(std::move(processor));
    }
  }
  if (auto batched = config.getLogitsPostProcessorBatched(); batched && *batched) {
    options.batched_logits_processor = to_processor(std::move(*batched));
  }
}

/// HEADRACE_DEVICE, which clients that know of GPUs alone choose with.
std::string device() {
  const char* const asked = std::getenv("HEADRACE_DEVICE");
  const std::string device = asked == nullptr || *asked == '\0' ? "auto" : asked;
  if (device == "auto" || device == "cpu" || device == "cuda") return device;
  fail(ErrorCode::kInvalidArgument, "[executor] HEADRACE_DEVICE '{}': use auto, cpu or cuda",
       device.substr(0, 80));
}

/// HEADRACE_HOST_THREADS, a number; how large it may be is the session's to say.
std::optional<int> host_threads() {
  const char* const asked = std::getenv("HEADRACE_HOST_THREADS");
  if (asked == nullptr || *asked == '\0') return std::nullopt;
  const std::string_view text = asked;
  int threads = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), threads);
  if (error == std::errc() && end == text.data() + text.size() && threads >= 0) return threads;
  fail(ErrorCode::kInvalidArgument,
       "[executor] HEADRACE_HOST_THREADS '{}': use a number of threads, 0 or more",
       text.substr(0, 80));
}

}  // namespace

double as_written(float value) {
  std::array<char, 64> text = {};
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value).ptr;
  double written = value;
  std::from_chars(text.data(), end, written);
  return written;
}

ExecutorOptions to_options(const std::filesystem::path& engine_dir,
                           const tle::ExecutorConfig& config) {
  check_config(config);
  ExecutorOptions options;
  options.engine_dir = engine_dir.string();
  options.device = device();
  options.host_threads = host_threads();
  options.gpu_weights_percent = as_written(config.getGpuWeightsPercent());
  options.max_batch_size = config.getMaxBatchSize().value_or(0);
  options.max_num_tokens = config.getMaxNumTokens().value_or(0);
  options.max_beam_width = config.getMaxBeamWidth();
  options.max_queue_size = config.getMaxQueueSize();
  options.capacity_policy = config.getSchedulerConfig().getCapacitySchedulerPolicy() ==
                                    tle::CapacitySchedulerPolicy::kMAX_UTILIZATION
                                ? CapacityPolicy::kMaxUtilization
                                : CapacityPolicy::kGuaranteedNoEvict;
  options.kv_cache = to_kv_cache(config.getKvCacheConfig());
  options.enable_chunked_context = config.getEnableChunkedContext();
  options.normalize_log_probs = config.getNormalizeLogProbs();
  options.iteration_stats_max = config.getIterStatsMaxIterations();
  options.request_stats_max = config.getRequestStatsMaxIterations();
  add_processors(config, options);
  options.log = log_line;
  return options;
}

}  // namespace headrace::compat
