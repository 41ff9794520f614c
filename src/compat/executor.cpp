#include "headrace/executor.h"

#include <algorithm>
#include <memory>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/mutex.h"
#include "compat/convert.h"
#include "compat/temporary_engine.h"
#include "tensorrt_llm/executor/executor.h"

namespace tensorrt_llm::executor {
namespace {

using headrace::ErrorCode;
using headrace::fail;

[[noreturn]] void refuse_encoder() {
  fail(ErrorCode::kUnsupported, "[executor] encoders are not supported: use kDECODER_ONLY");
}

[[noreturn]] void refuse_model() {
  fail(ErrorCode::kUnsupported,
       "[executor] models of the caller's making are not supported: pass the engine's folder");
}

}  // namespace

/// The executor, and what of requests their responses do not tell.
class Executor::Impl {
 public:
  Impl(std::filesystem::path const& path, ModelType model_type, ExecutorConfig const& config)
      : native_(options(path, model_type, config)) {
    check_window(config.getKvCacheConfig().getMaxAttentionWindowVec());
  }
  Impl(BufferView const& weights, std::string const& json, ModelType model_type,
       ExecutorConfig const& config)
      : engine_(std::make_unique<headrace::compat::TemporaryEngine>(weights, json)),
        native_(options(engine_->path(), model_type, config)) {
    check_window(config.getKvCacheConfig().getMaxAttentionWindowVec());
  }

  std::vector<IdType> enqueue(std::vector<Request> const& requests) {
    std::vector<headrace::Request> converted;
    converted.reserve(requests.size());
    for (Request const& request : requests) {
      converted.push_back(headrace::compat::to_request(request));
    }
    // Held until the ids are noted: responses are converted under it.
    headrace::MutexLock const lock(mutex_);
    std::vector<IdType> ids = native_.enqueue(std::move(converted));
    for (size_t i = 0; i < ids.size(); ++i) {
      if (requests[i].getStreaming() && requests[i].getOutputConfig().returnGenerationLogits) {
        streaming_logits_.insert(ids[i]);
      }
    }
    return ids;
  }

  std::vector<Response> convert(std::vector<headrace::Response> const& responses) {
    std::vector<Response> converted;
    converted.reserve(responses.size());
    headrace::MutexLock const lock(mutex_);
    for (headrace::Response const& response : responses) {
      bool const streaming = streaming_logits_.contains(response.request_id);
      converted.push_back(headrace::compat::from_response(response, streaming));
      if (response.result.is_final) streaming_logits_.erase(response.request_id);
    }
    return converted;
  }

  headrace::Executor& native() { return native_; }

 private:
  static headrace::ExecutorOptions options(std::filesystem::path const& path, ModelType model_type,
                                           ExecutorConfig const& config) {
    if (model_type != ModelType::kDECODER_ONLY) refuse_encoder();
    return headrace::compat::to_options(path, config);
  }

  void check_window(std::optional<std::vector<SizeType32>> const& windows) const {
    if (!windows || windows->empty()) return;
    SizeType32 const shortest = *std::ranges::min_element(*windows);
    if (shortest >= native_.max_sequence_tokens()) return;
    fail(ErrorCode::kUnsupported,
         "[executor] an attention window of {} tokens is not supported: leave it out, or use {} or "
         "more",
         shortest, native_.max_sequence_tokens());
  }

  std::unique_ptr<headrace::compat::TemporaryEngine> engine_;  // null: the engine is the caller's
  headrace::Executor native_;
  headrace::Mutex mutex_;
  /// Requests whose generation logits are [tokens, beams, vocab_size].
  std::set<IdType> streaming_logits_ HR_GUARDED_BY(mutex_);
};

Executor::Executor(std::filesystem::path const& modelPath, ModelType modelType,
                   ExecutorConfig const& executorConfig)
    : impl_(std::make_shared<Impl>(modelPath, modelType, executorConfig)) {}

Executor::Executor(BufferView const& engineBuffer, std::string const& jsonConfigStr,
                   ModelType modelType, ExecutorConfig const& executorConfig,
                   std::optional<std::map<std::string, Tensor>> const& managedWeights) {
  if (managedWeights && !managedWeights->empty()) {
    fail(ErrorCode::kUnsupported,
         "[executor] managed weights are not supported: build an engine that holds them");
  }
  impl_ = std::make_shared<Impl>(engineBuffer, jsonConfigStr, modelType, executorConfig);
}

Executor::Executor(std::filesystem::path const& /*encoderModelPath*/,
                   std::filesystem::path const& /*decoderModelPath*/, ModelType /*modelType*/,
                   ExecutorConfig const& /*executorConfig*/) {
  refuse_encoder();
}

Executor::Executor(BufferView const& /*encoderEngineBuffer*/,
                   std::string const& /*encoderJsonConfigStr*/,
                   BufferView const& /*decoderEngineBuffer*/,
                   std::string const& /*decoderJsonConfigStr*/, ModelType /*modelType*/,
                   ExecutorConfig const& /*executorConfig*/) {
  refuse_encoder();
}

Executor::Executor(std::shared_ptr<Model> /*model*/, ExecutorConfig const& /*executorConfig*/) {
  refuse_model();
}

Executor::Executor(std::shared_ptr<Model> /*encoderModel*/, std::shared_ptr<Model> /*decoderModel*/,
                   ExecutorConfig const& /*executorConfig*/) {
  refuse_model();
}

// Those who wait get their responses from the native executor, and convert them afterwards.
Executor::~Executor() {
  if (impl_) impl_->native().shutdown();
}

Executor& Executor::operator=(Executor&& other) noexcept {
  Executor moved(std::move(other));
  std::swap(impl_, moved.impl_);
  return *this;
}

IdType Executor::enqueueRequest(Request const& request) {
  return impl_->enqueue({request}).front();
}

std::vector<IdType> Executor::enqueueRequests(std::vector<Request> const& requests) {
  return impl_->enqueue(requests);
}

std::vector<Response> Executor::awaitResponses(
    std::optional<std::chrono::milliseconds> const& timeout) {
  auto const impl = impl_;
  return impl->convert(impl->native().await_responses(timeout));
}

std::vector<Response> Executor::awaitResponses(
    IdType const& requestId, std::optional<std::chrono::milliseconds> const& timeout) {
  auto const impl = impl_;
  return impl->convert(impl->native().await_responses(requestId, timeout));
}

std::vector<std::vector<Response>> Executor::awaitResponses(
    std::vector<IdType> const& requestIds,
    std::optional<std::chrono::milliseconds> const& timeout) {
  auto const impl = impl_;
  std::vector<std::vector<Response>> converted;
  for (auto const& responses : impl->native().await_responses(requestIds, timeout)) {
    converted.push_back(impl->convert(responses));
  }
  return converted;
}

SizeType32 Executor::getNumResponsesReady(std::optional<IdType> const& requestId) const {
  return static_cast<SizeType32>(impl_->native().responses_ready(requestId));
}

void Executor::cancelRequest(IdType requestId) { impl_->native().cancel(requestId); }
void Executor::shutdown() { impl_->native().shutdown(); }
bool Executor::canEnqueueRequests() const { return impl_->native().can_enqueue(); }

std::deque<IterationStats> Executor::getLatestIterationStats() {
  std::deque<IterationStats> converted;
  for (auto const& stats : impl_->native().latest_iteration_stats()) {
    converted.push_back(headrace::compat::from_stats(stats));
  }
  return converted;
}

std::deque<RequestStatsPerIteration> Executor::getLatestRequestStats() {
  std::deque<RequestStatsPerIteration> converted;
  for (auto const& stats : impl_->native().latest_request_stats()) {
    converted.push_back(headrace::compat::from_stats(stats));
  }
  return converted;
}

}  // namespace tensorrt_llm::executor
