#pragma once

#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "tensorrt_llm/executor/requestParts.h"
#include "tensorrt_llm/executor/tensor.h"
#include "tensorrt_llm/executor/types.h"

namespace tensorrt_llm::executor {

/// What one response tells of one sequence of a request (or of all its beams).
struct Result {
  bool isFinal = false;  // nothing more comes for this request
  /// By beam. Streaming: the new tokens alone (or all generated so far, if asked for). Otherwise
  /// the prompt, unless it is excluded, and all that was generated.
  BeamTokens outputTokenIds;
  std::optional<VecLogProbs> cumLogProbs;            // by beam
  std::optional<std::vector<VecLogProbs>> logProbs;  // by beam, of the generated tokens
  std::optional<Tensor> contextLogits;               // fp32, [prompt, vocab_size]
  /// fp32, [beams, tokens, vocab_size]; streaming: [tokens, beams, vocab_size].
  std::optional<Tensor> generationLogits;
  std::optional<Tensor> encoderOutput;                   // never there
  std::vector<FinishReason> finishReasons;               // by beam
  std::optional<ContextPhaseParams> contextPhaseParams;  // never there
  SizeType32 decodingIter = 0;   // steps so far, each of which chose a token for every beam
  SizeType32 sequenceIndex = 0;  // which of numReturnSequences
  bool isSequenceFinal = false;  // nothing more comes for this sequence
};

/// A result, or the error that ended the request.
class Response {
 public:
  Response(IdType requestId, std::string errorMsg)
      : requestId_(requestId), content_(std::move(errorMsg)) {}
  Response(IdType requestId, Result result) : requestId_(requestId), content_(std::move(result)) {}

  [[nodiscard]] IdType getRequestId() const { return requestId_; }
  [[nodiscard]] bool hasError() const { return content_.index() == 0; }
  /// Throws if there is no error.
  [[nodiscard]] std::string const& getErrorMsg() const;
  /// Throws, with the error's text, if there is one.
  [[nodiscard]] Result const& getResult() const;

 private:
  IdType requestId_;
  std::variant<std::string, Result> content_;
};

}  // namespace tensorrt_llm::executor
