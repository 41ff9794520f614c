#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "tensorrt_llm/executor/executorConfig.h"
#include "tensorrt_llm/executor/request.h"
#include "tensorrt_llm/executor/response.h"
#include "tensorrt_llm/executor/stats.h"
#include "tensorrt_llm/executor/tensor.h"
#include "tensorrt_llm/executor/types.h"

// The names and signatures of TensorRT-LLM's Executor API, v0.13, so that programs written against
// it compile unchanged. They are a thin layer over headrace::Executor (headrace/executor.h), which
// does the work and says what is promised.
namespace tensorrt_llm::executor {

/// Headrace's.
char const* version() noexcept;

/// Never defined.
class Model;

/// Serves requests. Thread-safe. Failures are headrace::Error, a std::runtime_error; the place of
/// what this layer itself refuses is [executor].
class Executor {
 public:
  /// Opens an engine folder. A path that is not there: "... File does not exist ...".
  Executor(std::filesystem::path const& modelPath, ModelType modelType,
           ExecutorConfig const& executorConfig);

  /// Opens an engine (the content of rank0.engine) with its configuration (of config.json). Both
  /// are written into a temporary folder (below TMPDIR), which lives as long as the executor;
  /// nothing is kept of the arguments. No managed weights are supported.
  Executor(BufferView const& engineBuffer, std::string const& jsonConfigStr, ModelType modelType,
           ExecutorConfig const& executorConfig,
           std::optional<std::map<std::string, Tensor>> const& managedWeights = std::nullopt);

  // Encoders and models of the caller's making are not supported: these throw.
  Executor(std::filesystem::path const& encoderModelPath,
           std::filesystem::path const& decoderModelPath, ModelType modelType,
           ExecutorConfig const& executorConfig);
  Executor(BufferView const& encoderEngineBuffer, std::string const& encoderJsonConfigStr,
           BufferView const& decoderEngineBuffer, std::string const& decoderJsonConfigStr,
           ModelType modelType, ExecutorConfig const& executorConfig);
  Executor(std::shared_ptr<Model> model, ExecutorConfig const& executorConfig);
  Executor(std::shared_ptr<Model> encoderModel, std::shared_ptr<Model> decoderModel,
           ExecutorConfig const& executorConfig);

  /// Shuts down. Calls that wait return; no other may be in progress.
  ~Executor();
  Executor(Executor const&) = delete;
  Executor& operator=(Executor const&) = delete;
  /// Leaves `other` good for nothing but destruction and assignment.
  Executor(Executor&& other) noexcept = default;
  Executor& operator=(Executor&& other) noexcept;

  /// Queues a request. What is wrong with it is told by its response, but for what Headrace cannot
  /// do at all (LoRA and the like): that throws, and nothing is queued.
  [[nodiscard]] IdType enqueueRequest(Request const& request);
  [[nodiscard]] std::vector<IdType> enqueueRequests(std::vector<Request> const& requests);

  /// Responses that are ready, of all requests, waiting until there is one; empty after `timeout`.
  [[nodiscard]] std::vector<Response> awaitResponses(
      std::optional<std::chrono::milliseconds> const& timeout = std::nullopt);
  /// The same of one request. If it has ended before: one response with the error
  /// "ReqId <id> has already been processed and was terminated.".
  [[nodiscard]] std::vector<Response> awaitResponses(
      IdType const& requestId,
      std::optional<std::chrono::milliseconds> const& timeout = std::nullopt);
  /// The same of each of several, in their order.
  [[nodiscard]] std::vector<std::vector<Response>> awaitResponses(
      std::vector<IdType> const& requestIds,
      std::optional<std::chrono::milliseconds> const& timeout = std::nullopt);

  [[nodiscard]] SizeType32 getNumResponsesReady(
      std::optional<IdType> const& requestId = std::nullopt) const;

  void cancelRequest(IdType requestId);

  /// Ends everything; requests in flight end with an error. Afterwards canEnqueueRequests() is
  /// false and other calls throw.
  void shutdown();
  [[nodiscard]] bool canEnqueueRequests() const;

  /// Of the passes since the last call.
  std::deque<IterationStats> getLatestIterationStats();
  std::deque<RequestStatsPerIteration> getLatestRequestStats();

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;  // shared with calls that still convert when it is destroyed
};

}  // namespace tensorrt_llm::executor
