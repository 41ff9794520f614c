#include <ctime>

#include <fmt/chrono.h>
#include <fmt/format.h>

#include "compat/convert.h"

namespace headrace::compat {
namespace {

tle::SizeType32 narrow(int64_t value) { return static_cast<tle::SizeType32>(value); }

std::string timestamp(int64_t us) {
  constexpr int64_t kUsPerSecond = 1'000'000;
  return fmt::format("{:%m-%d-%Y %H:%M:%S}.{:06}",
                     fmt::gmtime(static_cast<std::time_t>(us / kUsPerSecond)), us % kUsPerSecond);
}

tle::RequestStage from_stage(RequestStage stage) {
  switch (stage) {
    case RequestStage::kQueued:
      return tle::RequestStage::kQUEUED;
    case RequestStage::kContextInProgress:
      return tle::RequestStage::kCONTEXT_IN_PROGRESS;
    case RequestStage::kGenerationInProgress:
      return tle::RequestStage::kGENERATION_IN_PROGRESS;
    case RequestStage::kGenerationComplete:
      break;
  }
  return tle::RequestStage::kGENERATION_COMPLETE;
}

tle::KvCacheStats from_kv_cache(const KvCacheStats& from) {
  tle::KvCacheStats to;
  to.maxNumBlocks = narrow(from.max_blocks);
  to.freeNumBlocks = narrow(from.free_blocks);
  to.usedNumBlocks = narrow(from.used_blocks);
  to.tokensPerBlock = narrow(from.tokens_per_block);
  to.reusedBlocks = narrow(from.reused_blocks);
  return to;
}

tle::InflightBatchingStats from_batching(const IterationStats& from) {
  tle::InflightBatchingStats to;
  to.numScheduledRequests = narrow(from.scheduled_sequences);
  to.numContextRequests = narrow(from.context_sequences);
  to.numGenRequests = narrow(from.generation_sequences);
  to.numPausedRequests = narrow(from.paused_sequences);
  to.numCtxTokens = narrow(from.context_tokens);
  to.avgNumDecodedTokensPerIter = from.generated_tokens > 0 ? 1.0f : 0.0f;
  return to;
}

}  // namespace

tle::IterationStats from_stats(const IterationStats& stats) {
  tle::IterationStats to;
  to.timestamp = timestamp(stats.timestamp_us);
  to.iter = static_cast<tle::IterationType>(stats.iteration);
  to.iterLatencyMS = stats.latency_ms;
  to.numActiveRequests = narrow(stats.active_requests);
  to.numQueuedRequests = narrow(stats.queued_requests);
  to.numCompletedRequests = narrow(stats.completed_requests);
  to.maxNumActiveRequests = narrow(stats.max_active_requests);
  to.kvCacheStats = from_kv_cache(stats.kv_cache);
  to.inflightBatchingStats = from_batching(stats);
  return to;
}

tle::RequestStatsPerIteration from_stats(const RequestStatsOfIteration& stats) {
  tle::RequestStatsPerIteration to;
  to.iter = static_cast<tle::IterationType>(stats.iteration);
  for (const RequestStats& from : stats.requests) {
    tle::RequestStats& request = to.requestStats.emplace_back();
    request.id = from.request_id;
    request.stage = from_stage(from.stage);
    request.contextPrefillPosition = narrow(from.context_position);
    request.numGeneratedTokens = narrow(from.generated_tokens);
    request.avgNumDecodedTokensPerIter = from.generated_tokens > 0 ? 1.0f : 0.0f;
    request.scheduled = from.scheduled;
    request.paused = from.paused;
  }
  return to;
}

}  // namespace headrace::compat
