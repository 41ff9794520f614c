#include "tensorrt_llm/executor/executor.h"
#include "tests/compat/clients/clients.h"

namespace tle = tensorrt_llm::executor;

namespace clients {

Tokens runDebug(std::string const& engineDir) {
  auto debug = tle::DebugConfig();
  debug.setDebugTensorNames({"host_request_types", "logits"});
  auto config = tle::ExecutorConfig(1);
  config.setDebugConfig(debug);
  auto executor = tle::Executor(engineDir, tle::ModelType::kDECODER_ONLY, config);

  auto const request = tle::Request({1, 2, 3, 4}, 2);
  auto const responses = executor.awaitResponses(executor.enqueueRequest(request));
  return responses.at(0).getResult().outputTokenIds.at(0);
}

}  // namespace clients
