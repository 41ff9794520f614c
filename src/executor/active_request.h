#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "executor/sequence.h"
#include "headrace/executor_stats.h"
#include "headrace/request.h"
#include "headrace/response.h"
#include "sampling/beam_logits.h"

namespace headrace {

/// A request that is being served: its sequences, what has been made of them, and the responses
/// that tell of it. Confined to one thread.
class ActiveRequest {
 public:
  /// `request` has been checked. It arrived at `arrival_ns`, which its deadline counts from.
  /// `normalize_log_probs`: sums of beams are divided by length.
  ActiveRequest(uint64_t id, Request request, int64_t arrival_ns, int64_t vocab_size,
                bool normalize_log_probs);

  uint64_t id() const { return id_; }
  const Request& request() const { return request_; }
  std::span<const std::unique_ptr<Sequence>> sequences() const { return sequences_; }
  /// On the clock of `arrival_ns`; nothing: none.
  std::optional<int64_t> deadline_ns() const { return deadline_ns_; }
  /// Nothing more will be told.
  bool over() const { return unfinished_ == 0; }

  void add_context_logits(const Sequence& sequence, std::span<const float> logits);
  void add_generation_logits(const Sequence& sequence, std::span<const float> logits);
  /// Tells of a token that was just added: for every one when streaming, else at the end.
  void on_token(const Sequence& sequence, std::vector<Response>& responses);
  /// Ends all sequences that have not ended, with what there is.
  void end(FinishReason reason, std::vector<Response>& responses);
  /// Ends the request with an error.
  void fail(const std::string& message, std::vector<Response>& responses);

  /// Marks that some of it has been admitted; false if that was known.
  bool start() { return !std::exchange(started_, true); }
  bool started() const { return started_; }
  RequestStats stats() const;

 private:
  /// What is collected of a sequence for its responses.
  struct Output {
    std::vector<float> context_logits = {};
    std::vector<float> generation_logits = {};
    std::optional<BeamLogits> beam_logits = {};  // of a beam search, if they are wanted
    int64_t told = 0;                            // generated tokens in responses
    bool ended = false;
  };

  Output& output(const Sequence& sequence) { return outputs_[static_cast<size_t>(sequence.index)]; }
  void respond(const Sequence& sequence, std::vector<Response>& responses);
  void fill_in_line(const Sequence& sequence, int64_t first, Result& result) const;
  void fill_in_beams(const Sequence& sequence, const Output& output, Result& result) const;
  bool tells_prompt() const { return !request_.streaming && !request_.output.exclude_input; }
  bool leaves_end_id_out(FinishReason reason) const;
  void move_logits(Output& output, Result& result) const;

  const uint64_t id_;
  const Request request_;
  const int64_t vocab_size_;
  const bool normalize_log_probs_;
  std::optional<int64_t> deadline_ns_;
  std::vector<std::unique_ptr<Sequence>> sequences_;
  std::vector<Output> outputs_;  // by sequence
  size_t unfinished_ = 0;        // sequences
  bool started_ = false;
};

/// The response that a request gets which was never served.
Response error_response(uint64_t request_id, const std::string& message);

}  // namespace headrace
