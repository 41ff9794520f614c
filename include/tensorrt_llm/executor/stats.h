#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "tensorrt_llm/executor/basicTypes.h"

namespace tensorrt_llm::executor {

/// Blocks of the KV cache.
struct KvCacheStats {
  SizeType32 maxNumBlocks = 0;
  SizeType32 freeNumBlocks = 0;
  SizeType32 usedNumBlocks = 0;
  SizeType32 tokensPerBlock = 0;
  SizeType32 allocTotalBlocks = 0;  // always 0: blocks are not counted as they are taken
  SizeType32 allocNewBlocks = 0;    // always 0
  SizeType32 reusedBlocks = 0;
};

/// Never filled in: requests are batched in flight.
struct StaticBatchingStats {
  SizeType32 numScheduledRequests = 0;
  SizeType32 numContextRequests = 0;
  SizeType32 numCtxTokens = 0;
  SizeType32 numGenTokens = 0;
  SizeType32 emptyGenSlots = 0;
};

struct InflightBatchingStats {
  SizeType32 numScheduledRequests = 0;
  SizeType32 numContextRequests = 0;
  SizeType32 numGenRequests = 0;
  SizeType32 numPausedRequests = 0;
  SizeType32 numCtxTokens = 0;
  SizeType32 microBatchId = 0;
  float avgNumDecodedTokensPerIter = 0;
};

/// One pass of the executor.
struct IterationStats {
  std::string timestamp;  // its end, UTC: "11-27-2026 16:05:01.123456"
  IterationType iter = 0;
  double iterLatencyMS = 0;
  double newActiveRequestsQueueLatencyMS = 0;  // always 0
  SizeType32 numActiveRequests = 0;
  SizeType32 numQueuedRequests = 0;
  SizeType32 numCompletedRequests = 0;
  SizeType32 maxNumActiveRequests = 0;
  std::size_t gpuMemUsage = 0;     // always 0
  std::size_t cpuMemUsage = 0;     // always 0
  std::size_t pinnedMemUsage = 0;  // always 0
  std::optional<KvCacheStats> kvCacheStats;
  std::optional<KvCacheStats> crossKvCacheStats;
  std::optional<StaticBatchingStats> staticBatchingStats;
  std::optional<InflightBatchingStats> inflightBatchingStats;
};

enum class RequestStage {
  kQUEUED,
  kENCODER_IN_PROGRESS,
  kCONTEXT_IN_PROGRESS,
  kGENERATION_IN_PROGRESS,
  kGENERATION_COMPLETE,
};

/// One request in one pass.
struct RequestStats {
  IdType id = 0;
  RequestStage stage = RequestStage::kQUEUED;
  SizeType32 contextPrefillPosition = 0;
  SizeType32 numGeneratedTokens = 0;
  float avgNumDecodedTokensPerIter = 0;
  bool scheduled = false;
  bool paused = false;
};

struct RequestStatsPerIteration {
  IterationType iter = 0;
  std::vector<RequestStats> requestStats;
};

/// Stats as JSON objects whose keys are the members' names.
class JsonSerialization {
 public:
  [[nodiscard]] static std::string toJsonStr(IterationStats const& iterationStats);
  [[nodiscard]] static std::string toJsonStr(RequestStatsPerIteration const& requestStatsPerIter);
  [[nodiscard]] static std::string toJsonStr(RequestStats const& requestStats);
};

}  // namespace tensorrt_llm::executor
