#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/context.h"
#include "engine/engine_reader.h"
#include "executor/batch.h"
#include "executor/request_check.h"
#include "executor/scheduler.h"
#include "headrace/response.h"
#include "kernels/backend.h"
#include "kv/kv_cache.h"
#include "model/model.h"
#include "plan/plan.h"
#include "sampling/beam_search.h"
#include "sampling/sampler.h"
#include "sampling/token_constraints.h"
#include "stream/embedding_reader.h"
#include "stream/weight_stream.h"

namespace headrace {

/// What a session must be able to hold at once. Sizes come from here and from the engine's build
/// configuration; from free memory only where kv_memory_fraction asks for it.
struct SessionLimits {
  static constexpr int64_t kEnginesMost = -1;
  int64_t max_sequences = 1;   // sequences in one batch; kEnginesMost: the engine's max_batch_size
  int64_t max_beam_width = 1;  // beams that each of them may have
  int64_t max_sequence_tokens = 0;  // prompt + output of one sequence; 0: the engine's max_seq_len
  bool context_logits = false;      // logits of every prompt position are wanted
  int64_t kv_tokens = 0;            // positions of the KV cache; 0: enough for all sequences
  double kv_memory_fraction = 0;    // of what is free beside the weights, no more; 0: not limited
  bool reuse_prefixes = false;      // sequences that begin alike share what was computed, also by
                                    // earlier generate() calls

  /// Lines of tokens in one batch: sequences without a beam search, or beams.
  int64_t max_lines() const { return max_sequences * max_beam_width; }
};

struct SessionOptions {
  std::string engine_dir;                  // the engine's folder, unless there is ...
  std::optional<SyntheticSpec> synthetic;  // ... an engine of made-up weights
  std::string device = "auto";             // auto, cpu or cuda
  WeightBudget budget;                     // weights kept in fast memory
  uint64_t memory_limit = 0;      // bytes of fast memory that the session may take; 0: what is free
  bool automatic_budget = false;  // as many as memory allows, instead of `budget`
  SessionLimits limits;
  int64_t prefill_chunk = 0;  // token rows of a pass with prompts; 0: chosen, scratch <= 256 MB
  int32_t ring_requests = 0;  // slots of the ring; 0: chosen by the plan
  /// Threads that multiply in host memory while a device streams; nothing: all processors but one,
  /// 0: none.
  std::optional<int> host_threads = {};
  std::optional<double> host_share = {};  // of what is not resident; nothing: what the plan says
  StreamOptions stream;
  std::string profile_path;  // machine profile to plan with; empty: measured once and cached
};

/// Planned bytes of memory, by use; what a process needs beyond its own code and tables.
struct MemoryReport {
  uint64_t weights_bytes = 0;  // resident tiles with their padding
  uint64_t ring_bytes = 0;
  uint64_t vectors_bytes = 0;  // norms and biases
  uint64_t kv_bytes = 0;
  uint64_t scratch_bytes = 0;  // activations, logits, kernel workspace
  /// What weights and ring took of a device's memory, by its driver, which counts other processes
  /// too; nothing where there is none.
  std::optional<uint64_t> measured_weights_bytes = {};
  uint64_t total_bytes() const {
    return weights_bytes + ring_bytes + vectors_bytes + kv_bytes + scratch_bytes;
  }
};

struct GenerationRequest {
  std::vector<int32_t> prompt;  // at least one token
  int64_t max_new_tokens = 1;
  std::vector<int32_t> end_ids;  // generating one of them ends the sequence; empty: never
  SamplingParams sampling;
  BeamSearchOptions beams = {};  // beam_width 1: none; max_new_tokens above holds
  TokenConstraints constraints = {};
};

struct GenerationResult {
  std::vector<int32_t> tokens;   // generated ones; an end id is the last of them
  std::vector<float> log_probs;  // of each generated token, natural logarithm
  double cumulative_log_prob = 0;
  FinishReason finish_reason = FinishReason::kLength;
  std::vector<BeamHypothesis> beams;  // best first, the first as above; empty without a search
};

/// Told what happens while a batch is generated. Called from the thread that runs generate().
class GenerationObserver {
 public:
  virtual ~GenerationObserver() = default;
  /// After each generated token; false ends that sequence (FinishReason::kStopped). Not called for
  /// beam searches.
  virtual bool on_token(size_t /*request*/, int32_t /*token*/) { return true; }
  /// After each step of a beam search: its outputs as they are now, the best first. After the last
  /// step they are the result's.
  virtual void on_beams(size_t /*request*/, std::span<const BeamHypothesis> /*beams*/,
                        bool /*last*/) {}
  /// Whether the calls below are wanted; without them, logits need not leave the device.
  virtual bool wants_logits() const { return false; }
  /// Logits after prompt position `position`; only if SessionLimits::context_logits.
  virtual void on_context_logits(size_t, int64_t, std::span<const float>) {}
  /// Logits that the `step`-th generated token is sampled from; of a beam search [lines, vocab].
  virtual void on_generation_logits(size_t, int64_t, std::span<const float>) {}
};

/// What one generate() call took. Times are wall-clock milliseconds.
struct GenerationStats {
  int64_t prompt_tokens = 0;
  int64_t generated_tokens = 0;  // by all beams of a search
  int64_t prefill_passes = 0;    // with rows of prompts
  int64_t decode_passes = 0;     // without
  double prefill_ms = 0;         // until every prompt's last logits are there
  double decode_ms = 0;
  int64_t prefill_tokens = 0;    // of generated_tokens, those that came out of prefill passes
  StreamCounters stream;         // of this call alone
  StreamCounters decode_stream;  // of its decode passes
};

/// An engine ready to generate: backend, plan, weights, KV cache, model. Confined to one thread.
class Session {
 public:
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  /// Opens the engine, plans, allocates, and reads the resident weights. Everything that cannot be
  /// honoured is an Error with what would work, before anything large is loaded.
  static std::unique_ptr<Session> open(const SessionOptions& options, Context& context);

  const Engine& engine() const { return engine_; }
  const Plan& plan() const { return plan_; }
  const WeightBudget& budget() const { return options_.budget; }
  /// The budget as a share of the weights.
  double weights_percent() const;
  const MachineProfile& profile() const { return profile_; }
  /// Of a decode pass of so many token rows: the plan's prediction, corrected by what passes so far
  /// have shown of the host's speed.
  double predicted_pass_ms(int64_t tokens) const;
  const Backend& backend() const { return *backend_; }
  WeightStream& stream() const { return *stream_; }
  MemoryReport memory() const;
  const SessionLimits& limits() const { return options_.limits; }
  int64_t prefill_chunk() const { return prefill_chunk_; }

  /// Plans again and reloads the weights for another budget, between passes. If that fails, the old
  /// budget holds again. The KV cache stays: who wants kv_blocks_beside(budget) shrinks it before,
  /// or lets it grow afterwards.
  void set_budget(const WeightBudget& budget);
  /// Blocks of KV cache beside so many weights. Error{kOutOfMemory} if there is no room for one,
  /// Error{kInvalidArgument} if the budget cannot be.
  int64_t kv_blocks_beside(const WeightBudget& budget) const;
  /// Throws what set_budget() would, as far as memory goes, with a KV cache of so many blocks, no
  /// more than it has.
  void check_budget(const WeightBudget& budget, int64_t kv_blocks) const;
  /// Blocks that the KV cache can grow to in the memory that is free now.
  int64_t kv_blocks_that_fit() const;
  /// Copies blocks of the KV cache, and waits for it.
  void copy_kv(std::span<const KvBlockCopy> copies);
  /// Loads the weights again: after a pass has thrown, before the next one.
  void reload() { load_weights(); }
  /// False after a load that threw.
  bool loaded() const { return loaded_; }

  /// What a batch of sequences is run with. The resources are good until the weights are loaded
  /// again. REQUIRES of resources(): the last load did not throw.
  PassResources resources();
  SchedulerLimits scheduler_limits() const;
  /// With the KV cache as it is.
  PromptLimits prompt_limits() const;
  /// The most blocks of KV cache that a budget leaves room for.
  int64_t most_kv_blocks() const { return most_kv_blocks_; }
  KvCache& kv() { return *kv_; }

  /// Generates for all requests as one batch: every sequence decodes one token a pass, and prompts
  /// fill what a pass has left. A request's tokens and logits do not depend on the others.
  /// Error{kInvalidArgument} for an empty prompt, a token outside the vocabulary, or more
  /// sequences, beams or tokens than the limits allow. `observer` may be null. REQUIRES: nobody
  /// else uses the KV cache.
  std::vector<GenerationResult> generate(std::span<const GenerationRequest> requests,
                                         GenerationObserver* observer = nullptr);

  /// Of the last generate() call.
  const GenerationStats& stats() const { return stats_; }
  /// Blocks of KV cache that generate() found instead of computing them, in all its calls.
  int64_t reused_blocks() const { return batch_ ? batch_->scheduler().reused_blocks() : 0; }

 private:
  Session(const SessionOptions& options, Context& context);

  void make_kv();
  uint64_t memory_for_weights() const;
  bool kv_follows_weights() const;
  int64_t kv_blocks_within(uint64_t bytes) const;
  uint64_t memory_for_kv(const WeightBudget& budget) const;
  uint64_t most_memory_for_kv() const;
  Plan plan_for(const WeightBudget& budget, uint64_t available) const;
  void check_memory(const Plan& plan, const PlanOptions& options, uint64_t available) const;
  void load_weights();
  void make_host_workers();
  void share_with_host();
  void check(std::span<const GenerationRequest> requests) const;

  SessionOptions options_;
  Context& context_;
  Engine engine_;
  std::unique_ptr<Backend> backend_;
  MachineProfile profile_;
  Plan plan_;
  int64_t prefill_chunk_ = 0;
  uint64_t memory_at_start_ = 0;  // for weights, ring and KV cache
  int64_t most_kv_blocks_ = 0;
  std::unique_ptr<KvCache> kv_;
  std::unique_ptr<Batch> batch_;  // of generate(), from its first call on
  std::unique_ptr<Model> model_;
  bool loaded_ = false;  // what follows can run passes
  std::unique_ptr<WeightStream> stream_;
  std::unique_ptr<EmbeddingReader> embedding_;
  std::optional<uint64_t> measured_weights_bytes_;
  GenerationStats stats_;
};

/// "Set gpu weights percent to ...": reports the plan and memory at start-up, a line each.
void report_plan(const Session& session, Log& log);

}  // namespace headrace
