#pragma once

#include <cstdint>
#include <exception>
#include <span>
#include <vector>

#include "base/clock.h"
#include "executor/scheduler.h"
#include "executor/sequence.h"
#include "kernels/backend.h"
#include "kv/kv_cache.h"
#include "model/model.h"

namespace headrace {

/// The parts that a pass needs, for the time of the pass.
struct PassResources {
  Model& model;
  WeightStream& stream;
  EmbeddingReader& embedding;
  KvCache& kv;
  Backend& backend;
  const Clock& clock;
};

/// Told what becomes of the sequences of a batch, on the thread that runs the pass. Handlers keep a
/// sequence where it is until the pass has ended, and do not change the batch, but that
/// on_failure() may remove others: they are told of no more. What a handler throws fails its
/// sequence.
class BatchEvents {
 public:
  virtual ~BatchEvents() = default;
  /// Logits after prompt position `position`, in order, once each.
  virtual void on_context_logits(Sequence& /*sequence*/, int64_t /*position*/,
                                 std::span<const float> /*logits*/) {}
  /// Logits [lines, vocab] that the next tokens will be chosen from, to be changed.
  virtual void on_logits(Sequence& /*sequence*/, std::span<float> /*logits*/) {}
  /// The same for all sequences of the pass that are kBatched: `logits` is [lines, vocab], the
  /// lines of each sequence in turn. What it throws fails all of them.
  virtual void on_batched_logits(std::span<Sequence* const> /*sequences*/,
                                 std::span<float> /*logits*/) {}
  /// A token was added, to each line; finish_reason says whether it was the last. False ends the
  /// sequence.
  virtual bool on_token(Sequence& sequence) = 0;
  /// The sequence alone has failed (no token can be chosen, or a handler threw) and is out of the
  /// batch.
  virtual void on_failure(Sequence& sequence, std::exception_ptr error) = 0;
};

/// Sequences that share passes: asks the scheduler what a pass holds, packs it, runs it, and
/// chooses the tokens. What a sequence gets is a function of its own state and logits. Confined to
/// one thread; nothing on the path of a pass allocates once the vectors have grown.
class Batch {
 public:
  /// `limits` are those of the model, `kv` outlives the batch.
  Batch(const SchedulerLimits& limits, KvCache& kv) : scheduler_(limits, kv) {}

  /// `sequence` stays where it is until it has ended, failed or been removed. REQUIRES: as
  /// Scheduler::add().
  void add(Sequence& sequence) { scheduler_.add(sequence); }
  /// In a pass only by on_failure().
  void remove(Sequence& sequence) { scheduler_.remove(sequence); }
  /// After a pass that threw: what it left in the cache is not to be reused.
  void forget_prefixes() { scheduler_.forget_prefixes(); }

  /// Scheduler::vacate() and resize_cache(). Not in a pass.
  std::vector<KvBlockCopy> vacate_cache(int64_t blocks) { return scheduler_.vacate(blocks); }
  bool resize_cache(int64_t blocks) { return scheduler_.resize_cache(blocks); }

  /// Runs one pass; false if no sequence is there. Sequences that end are out of the batch before
  /// on_token(). What the model, the stream or the backend throws comes through, and then all
  /// sequences of pass() are to be removed.
  bool step(const PassResources& resources, BatchEvents& events);

  /// What the last step() ran, or tried to.
  std::span<const PassRows> pass() const { return pass_; }
  /// Rows of it that belong to prompts, or are computed again, and of how many sequences.
  int64_t prompt_rows() const { return prompt_rows_; }
  int64_t prompt_sequences() const { return prompt_sequences_; }
  /// How long it was in the hands of model and backend.
  int64_t model_ns() const { return model_ns_; }
  const Scheduler& scheduler() const { return scheduler_; }

 private:
  /// Rows of logits that belong together: one, or those of the lines of a sequence that decodes.
  struct LogitRows {
    Sequence* sequence = nullptr;
    int64_t position = 0;
    size_t first = 0;  // row of logits
    size_t count = 1;
    bool chooses = false;     // the next tokens, not only context logits
    int64_t best_needed = 0;  // likeliest tokens that are enough; 0: the logits leave the device
  };

  void pack(int64_t most_best);
  void pack_lines(Sequence& sequence, int64_t most_best);
  void pack_rows(Sequence& sequence, int64_t rows, int64_t most_best);
  void add_logit_rows(const LogitRows& rows, int64_t first_row, int64_t most_best);
  bool find_best(const float* logits, const PassResources& resources);
  void choose_from_best(BatchEvents& events);
  void choose_from_logits(const float* logits, const PassResources& resources, bool found_best,
                          BatchEvents& events);
  void take_rows(const LogitRows& rows, std::span<float> logits, BatchEvents& events);
  void choose_batched(int64_t vocab, BatchEvents& events);
  template <typename Choose>
  void choose(Sequence& sequence, BatchEvents& events, Choose&& choose);
  void accept(Sequence& sequence, BatchEvents& events);
  void fail(Sequence& sequence, BatchEvents& events);

  Scheduler scheduler_;
  std::span<const PassRows> pass_;
  int64_t prompt_rows_ = 0;
  int64_t prompt_sequences_ = 0;
  int64_t model_ns_ = 0;

  // The pass being run.
  std::vector<int32_t> ids_;
  std::vector<SequenceRows> rows_;
  std::vector<int32_t> logit_rows_;
  std::vector<LogitRows> owners_;   // of logit_rows_
  std::vector<float> host_logits_;  // of one owner
  std::vector<Sequence*> batched_;  // kBatched sequences that choose
  std::vector<float> batched_logits_;
  int64_t best_count_ = 0;  // tokens of a row that backend.best_tokens() found
  std::vector<int32_t> best_ids_;
  std::vector<float> best_logits_;
  std::vector<float> log_sums_;
};

}  // namespace headrace
