#include <nlohmann/json.hpp>

#include "tests/compat/compat_fixture.h"

namespace headrace {
namespace {

namespace tle = tensorrt_llm::executor;
using Json = nlohmann::json;

class CompatStats : public testing::CompatTest {};

TEST_F(CompatStats, TellOfEveryPassAndRequest) {
  tle::ExecutorConfig config;
  config.setRequestStatsMaxIterations(100);
  tle::Executor executor(engine(), tle::ModelType::kDECODER_ONLY, config);
  const tle::IdType id = executor.enqueueRequest(tle::Request({1, 2, 3}, 4));
  (void)executor.awaitResponses(id);
  std::deque<tle::IterationStats> passes = executor.getLatestIterationStats();
  ASSERT_FALSE(passes.empty());
  const Json first = Json::parse(tle::JsonSerialization::toJsonStr(passes.front()));
  EXPECT_EQ(first["iter"], 0);
  EXPECT_EQ(first["inflightBatchingStats"]["numCtxTokens"], 3);
  EXPECT_EQ(first["inflightBatchingStats"]["numContextRequests"], 1);
  EXPECT_GT(first["kvCacheStats"]["usedNumBlocks"], 0);
  EXPECT_TRUE(first["staticBatchingStats"].is_null());
  EXPECT_EQ(first["timestamp"].get<std::string>().size(),
            std::string("11-27-2026 16:05:01.123456").size());

  std::deque<tle::RequestStatsPerIteration> requests = executor.getLatestRequestStats();
  ASSERT_FALSE(requests.empty());
  const Json stats = Json::parse(tle::JsonSerialization::toJsonStr(requests.front()));
  EXPECT_EQ(stats["requestStats"][0]["id"], id);
  EXPECT_EQ(stats["requestStats"][0]["contextPrefillPosition"], 3);
  for (const tle::RequestStatsPerIteration& pass : requests) {
    EXPECT_EQ(pass.requestStats.at(0).contextPrefillPosition, 3);
  }
  const auto one =
      Json::parse(tle::JsonSerialization::toJsonStr(requests.front().requestStats.front()));
  EXPECT_EQ(one, stats["requestStats"][0]);
}

}  // namespace
}  // namespace headrace
