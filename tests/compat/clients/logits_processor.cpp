#include "tensorrt_llm/common/assert.h"
#include "tensorrt_llm/executor/executor.h"
#include "tests/compat/clients/clients.h"

namespace tle = tensorrt_llm::executor;

namespace clients {

Tokens runLogitsProcessor(std::string const& engineDir, Tokens const& forced, int count,
                          bool beforeV013) {
  std::size_t step = 0;
  auto const force = [&step, &forced](tle::IdType, tle::Tensor& logits, tle::BeamTokens const&,
                                      tle::StreamPtr const& stream, std::optional<tle::IdType>) {
    auto mask = tle::Tensor::cpu(logits.getDataType(), logits.getShape());
    auto* const values = static_cast<float*>(mask.getData());
    for (std::size_t i = 0; i < mask.getSize(); ++i) values[i] = -1.0e20f;
    values[forced[step]] = 0;
    logits.setFrom(mask, stream);
    step = (step + 1) % forced.size();
  };

  std::string const name = "force";
  auto config = tle::ExecutorConfig(1);
  if (beforeV013) {
    config.setLogitsPostProcessorMap(
        std::unordered_map<std::string, tle::LogitsPostProcessor>{{name, force}});
  } else {
    auto processors = tle::LogitsPostProcessorConfig();
    processors.setProcessorMap(
        std::unordered_map<std::string, tle::LogitsPostProcessor>{{name, force}});
    config.setLogitsPostProcessorConfig(processors);
  }
  auto executor = tle::Executor(engineDir, tle::ModelType::kDECODER_ONLY, config);

  tle::OutputConfig output;
  output.excludeInputFromOutput = true;
  auto request = tle::Request({1, 2, 3, 4}, count, false, tle::SamplingConfig(), output);
  request.setLogitsPostProcessorName(name);
  auto const responses = executor.awaitResponses(executor.enqueueRequest(std::move(request)));
  TLLM_CHECK_WITH_INFO(responses.size() == 1, "%zu responses", responses.size());
  return responses.at(0).getResult().outputTokenIds.at(0);
}

}  // namespace clients
