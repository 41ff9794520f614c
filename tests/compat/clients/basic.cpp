#include "tensorrt_llm/common/logger.h"
#include "tensorrt_llm/executor/executor.h"
#include "tensorrt_llm/plugins/api/tllmPlugin.h"
#include "tests/compat/clients/clients.h"

namespace tle = tensorrt_llm::executor;

namespace clients {

Tokens runBasic(std::string const& engineDir) {
  initTrtLlmPlugins();
  tle::SizeType32 const beamWidth = 1;
  auto const config = tle::ExecutorConfig(beamWidth);
  char const* const path = engineDir.c_str();
  auto executor = tle::Executor(path, tle::ModelType::kDECODER_ONLY, config);

  tle::VecTokens const prompt{1, 2, 3, 4};
  auto request = tle::Request(prompt, 5);
  auto const id = executor.enqueueRequest(std::move(request));
  auto const responses = executor.awaitResponses(id);
  auto const output = responses.at(0).getResult().outputTokenIds.at(beamWidth - 1);
  TLLM_LOG_INFO("Output: %s", tensorrt_llm::common::vec2str(output).c_str());
  return output;
}

}  // namespace clients
