#include <string>

#include <nlohmann/json.hpp>

#include "tensorrt_llm/executor/stats.h"

namespace tensorrt_llm::executor {
namespace {

using Json = nlohmann::ordered_json;

Json to_json(KvCacheStats const& stats) {
  return {{"maxNumBlocks", stats.maxNumBlocks},         {"freeNumBlocks", stats.freeNumBlocks},
          {"usedNumBlocks", stats.usedNumBlocks},       {"tokensPerBlock", stats.tokensPerBlock},
          {"allocTotalBlocks", stats.allocTotalBlocks}, {"allocNewBlocks", stats.allocNewBlocks},
          {"reusedBlocks", stats.reusedBlocks}};
}

Json to_json(StaticBatchingStats const& stats) {
  return {{"numScheduledRequests", stats.numScheduledRequests},
          {"numContextRequests", stats.numContextRequests},
          {"numCtxTokens", stats.numCtxTokens},
          {"numGenTokens", stats.numGenTokens},
          {"emptyGenSlots", stats.emptyGenSlots}};
}

Json to_json(InflightBatchingStats const& stats) {
  return {{"numScheduledRequests", stats.numScheduledRequests},
          {"numContextRequests", stats.numContextRequests},
          {"numGenRequests", stats.numGenRequests},
          {"numPausedRequests", stats.numPausedRequests},
          {"numCtxTokens", stats.numCtxTokens},
          {"microBatchId", stats.microBatchId},
          {"avgNumDecodedTokensPerIter", stats.avgNumDecodedTokensPerIter}};
}

char const* stage_name(RequestStage stage) {
  switch (stage) {
    case RequestStage::kQUEUED:
      return "QUEUED";
    case RequestStage::kENCODER_IN_PROGRESS:
      return "ENCODER_IN_PROGRESS";
    case RequestStage::kCONTEXT_IN_PROGRESS:
      return "CONTEXT_IN_PROGRESS";
    case RequestStage::kGENERATION_IN_PROGRESS:
      return "GENERATION_IN_PROGRESS";
    case RequestStage::kGENERATION_COMPLETE:
      break;
  }
  return "GENERATION_COMPLETE";
}

Json to_json(RequestStats const& stats) {
  return {{"id", stats.id},
          {"stage", stage_name(stats.stage)},
          {"contextPrefillPosition", stats.contextPrefillPosition},
          {"numGeneratedTokens", stats.numGeneratedTokens},
          {"avgNumDecodedTokensPerIter", stats.avgNumDecodedTokensPerIter},
          {"scheduled", stats.scheduled},
          {"paused", stats.paused}};
}

template <typename T>
Json or_null(std::optional<T> const& stats) {
  return stats ? to_json(*stats) : Json(nullptr);
}

}  // namespace

std::string JsonSerialization::toJsonStr(IterationStats const& stats) {
  Json json = {{"timestamp", stats.timestamp},
               {"iter", stats.iter},
               {"iterLatencyMS", stats.iterLatencyMS},
               {"newActiveRequestsQueueLatencyMS", stats.newActiveRequestsQueueLatencyMS},
               {"numActiveRequests", stats.numActiveRequests},
               {"numQueuedRequests", stats.numQueuedRequests},
               {"numCompletedRequests", stats.numCompletedRequests},
               {"maxNumActiveRequests", stats.maxNumActiveRequests},
               {"gpuMemUsage", stats.gpuMemUsage},
               {"cpuMemUsage", stats.cpuMemUsage},
               {"pinnedMemUsage", stats.pinnedMemUsage}};
  json["kvCacheStats"] = or_null(stats.kvCacheStats);
  json["crossKvCacheStats"] = or_null(stats.crossKvCacheStats);
  json["staticBatchingStats"] = or_null(stats.staticBatchingStats);
  json["inflightBatchingStats"] = or_null(stats.inflightBatchingStats);
  return json.dump();
}

std::string JsonSerialization::toJsonStr(RequestStatsPerIteration const& stats) {
  Json requests = Json::array();
  for (RequestStats const& request : stats.requestStats) requests.push_back(to_json(request));
  return Json{{"iter", stats.iter}, {"requestStats", requests}}.dump();
}

std::string JsonSerialization::toJsonStr(RequestStats const& stats) {
  return to_json(stats).dump();
}

}  // namespace tensorrt_llm::executor
