#include <algorithm>

#include "tensorrt_llm/common/assert.h"
#include "tensorrt_llm/common/logger.h"
#include "tensorrt_llm/executor/executor.h"
#include "tests/compat/clients/clients.h"

namespace tle = tensorrt_llm::executor;

namespace clients {
namespace {

std::size_t sequencesPerRequest(AdvancedOptions const& options) {
  auto const asked =
      options.numReturnSequences == 0 ? options.beamWidth : options.numReturnSequences;
  bool const beams = options.beamWidth > 1;
  return static_cast<std::size_t>(beams ? std::min(asked, options.beamWidth) : asked);
}

tle::ExecutorConfig makeConfig(AdvancedOptions const& options) {
  auto config = tle::ExecutorConfig(options.beamWidth);
  if (options.useOrchestratorMode) {
    auto const orchestrator = tle::OrchestratorConfig(true, "/no/such/worker");
    config.setParallelConfig(tle::ParallelConfig(tle::CommunicationType::kMPI,
                                                 tle::CommunicationMode::kORCHESTRATOR,
                                                 std::nullopt, std::nullopt, orchestrator));
  }
  return config;
}

std::vector<tle::IdType> enqueue(tle::Executor& executor, std::vector<Tokens> prompts,
                                 AdvancedOptions const& options) {
  tle::OutputConfig output;
  output.excludeInputFromOutput = options.excludeInputFromOutput;
  tle::SamplingConfig sampling(options.beamWidth);
  if (options.numReturnSequences > 0) {
    if (options.beamWidth == 1) sampling.setTopP(0.9f);
    sampling.setNumReturnSequences(options.numReturnSequences);
  }
  std::vector<tle::Request> requests;
  for (auto& prompt : prompts) {
    TLLM_LOG_INFO("A request of %d tokens", prompt.size());
    requests.emplace_back(std::move(prompt), 6, options.streaming, sampling, output);
  }
  return executor.enqueueRequests(std::move(requests));
}

void append(tle::Result const& result, tle::SizeType32 beamWidth, std::vector<Tokens>& sequences) {
  for (std::size_t i = 0; i < (beamWidth > 1 ? sequences.size() : 1); ++i) {
    auto& to = sequences.at(beamWidth > 1 ? i : static_cast<std::size_t>(result.sequenceIndex));
    auto const& from = result.outputTokenIds.at(i);
    to.insert(to.end(), from.begin(), from.end());
  }
}

}  // namespace

std::vector<std::vector<Tokens>> runAdvanced(std::string const& engineDir,
                                             std::vector<Tokens> prompts,
                                             AdvancedOptions const& options) {
  auto executor = tle::Executor(engineDir, tle::ModelType::kDECODER_ONLY, makeConfig(options));
  TLLM_CHECK(executor.canEnqueueRequests());
  auto const ids = enqueue(executor, std::move(prompts), options);
  std::map<tle::IdType, std::vector<Tokens>> outputs;
  for (auto const id : ids) outputs[id].resize(sequencesPerRequest(options));

  for (std::size_t finished = 0; finished < ids.size();) {
    for (auto const& response : executor.awaitResponses(std::chrono::milliseconds(1))) {
      if (response.hasError()) {
        TLLM_THROW("Request %lu: %s", response.getRequestId(), response.getErrorMsg().c_str());
      }
      auto const result = response.getResult();
      finished += result.isFinal ? 1 : 0;
      append(result, options.beamWidth, outputs.at(response.getRequestId()));
    }
  }
  std::vector<std::vector<Tokens>> ordered;
  for (auto const id : ids) ordered.push_back(outputs.at(id));
  return ordered;
}

}  // namespace clients
