// A client of TensorRT-LLM's Executor API, which serves one prompt with a share of the weights in
// fast memory. Nothing in it says that Headrace runs it.
//
//   tensorrt_llm_client ENGINE_DIR [GPU_WEIGHTS_PERCENT]

#include <cstdlib>
#include <exception>

#include "tensorrt_llm/common/logger.h"
#include "tensorrt_llm/executor/executor.h"
#include "tensorrt_llm/plugins/api/tllmPlugin.h"

namespace tle = tensorrt_llm::executor;

int main(int argc, char** argv) {
  initTrtLlmPlugins();
  if (argc < 2) {
    TLLM_LOG_ERROR("usage: %s ENGINE_DIR [GPU_WEIGHTS_PERCENT]", argv[0]);
    return 2;
  }
  try {
    tle::ExecutorConfig config;
    if (argc > 2) config.setGpuWeightsPercent(static_cast<float>(std::atof(argv[2])));
    tle::Executor executor(argv[1], tle::ModelType::kDECODER_ONLY, config);

    tle::OutputConfig output;
    output.excludeInputFromOutput = true;
    tle::Request const request({1, 2, 3, 4}, 8, false, tle::SamplingConfig(), output);
    auto const responses = executor.awaitResponses(executor.enqueueRequest(request));
    auto const tokens = responses.at(0).getResult().outputTokenIds.at(0);
    TLLM_LOG_INFO("Tokens: %s", tensorrt_llm::common::vec2str(tokens));
  } catch (std::exception const& error) {
    TLLM_LOG_ERROR(error.what());
    return 1;
  }
}
