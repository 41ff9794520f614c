#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <span>
#include <vector>

#include "executor/prefix_cache.h"
#include "executor/sequence.h"
#include "headrace/executor_options.h"
#include "kv/kv_cache.h"

namespace headrace {

struct SchedulerLimits {
  int64_t max_rows = 512;      // token rows of a pass; at least max_sequences
  int64_t max_logit_rows = 1;  // rows of a pass whose logits are wanted; at least max_sequences
  int64_t max_sequences = 1;   // that run at the same time; a beam search counts beam by beam
  CapacityPolicy policy = CapacityPolicy::kGuaranteedNoEvict;
  bool reuse_prefixes = false;  // sequences that begin alike share what was computed
  bool chunked_prompts = true;  // prompts are cut to fill passes; else only those that do not fit
                                // beside max_sequences rows
};

/// `rows` token rows of a pass: those of the positions from sequence->cached on, or if the sequence
/// is decoding, a row of position sequence->cached for each of its lines.
struct PassRows {
  Sequence* sequence = nullptr;
  int64_t rows = 0;
};

/// Decides what each pass holds: a row of every sequence that decodes, then prompt rows until the
/// pass is full, of running sequences and then of waiting ones, by priority and then by arrival.
/// Nobody overtakes a sequence whose turn it is and which does not fit yet, and one that later
/// arrivals of higher priority have overtaken kMostOvertaken times goes before all others: every
/// sequence is served.
///
/// It owns the blocks of the sequences. Under kGuaranteedNoEvict a sequence is admitted when the
/// blocks are sure for all of it; under kMaxUtilization when they are there for its prompt and a
/// step of everyone. Then, when they run out, the last running sequence in order gives its blocks
/// back and waits to be computed again from its prompt and what it has generated, or if it is a
/// beam search, from its prompt alone.
///
/// The lines of a beam search share the full blocks of their prompt, and of what else they have in
/// common. Its tables follow its beams when the pass is planned that computes them.
///
/// No I/O, no clock. Confined to one thread. A pass takes O(sequences) time, and allocates nothing
/// once its vectors have grown.
class Scheduler {
 public:
  static constexpr uint64_t kMostOvertaken = 64;

  /// `kv` must outlive it.
  Scheduler(const SchedulerLimits& limits, KvCache& kv);

  /// Queues a sequence. REQUIRES: it has at least one token, all of it fits the cache alone, and
  /// its width max_sequences.
  void add(Sequence& sequence);
  /// Takes a sequence out, wherever it is, and its blocks back.
  void remove(Sequence& sequence);
  /// Rows of the next pass, valid until the next call; empty if no sequence is there. Their block
  /// tables cover them. Each is to be computed() when the pass has been run.
  std::span<const PassRows> next_pass();
  /// What is to be copied in the cache before the pass that next_pass() returned; their order does
  /// not matter.
  std::span<const KvBlockCopy> copies() const { return copies_; }
  /// K and V of these rows are in the cache: moves the sequence on.
  void computed(const PassRows& rows);
  /// Nothing that is in the cache is good for other sequences any more.
  void forget_prefixes();

  /// Blocks that a smaller cache must have: those of the largest sequence, and under
  /// kGuaranteedNoEvict of all that run.
  int64_t least_blocks() const;
  /// KvCache::vacate(), with what has to be forgotten or preempted for it; the tables follow.
  /// REQUIRES: at least least_blocks(); not in a pass.
  std::vector<KvBlockCopy> vacate(int64_t blocks);
  /// KvCache::resize().
  bool resize_cache(int64_t blocks);

  /// Sequences that the last next_pass() admitted.
  std::span<Sequence* const> admitted() const { return admitted_; }
  /// How often sequences were preempted, so far.
  int64_t preempted() const { return preempted_; }
  /// Blocks that nobody holds, remembered ones included.
  int64_t free_blocks() const;
  /// Blocks that were found instead of computed, so far.
  int64_t reused_blocks() const { return reused_blocks_; }
  int64_t waiting() const { return static_cast<int64_t>(waiting_.size()); }
  int64_t running() const { return static_cast<int64_t>(running_.size()); }
  const SchedulerLimits& limits() const { return limits_; }

 private:
  struct ByOrder {
    bool operator()(const Sequence* a, const Sequence* b) const;
  };
  struct ByArrival {
    bool operator()(const Sequence* a, const Sequence* b) const;
  };
  struct Room {
    int64_t rows = 0;
    int64_t logit_rows = 0;
  };

  void wait(Sequence& sequence);
  bool follow_beams(Sequence& sequence);
  bool take_blocks(Sequence& sequence, int64_t positions);
  void find_prefix(Sequence& sequence);
  void plan_running(Room& room);
  bool grow(Sequence& sequence, int64_t positions, Room& room);
  void preempt_last(Room& room);
  void admit(Room& room);
  void promote_overtaken();
  void run(Sequence& sequence);
  void stop_running(Sequence& sequence);
  void drop_cache(Sequence& sequence);
  void plan_prompt(Sequence& sequence, int64_t rows, Room& room);
  int64_t prompt_rows(const Sequence& sequence, const Room& room) const;
  int64_t blocks_for(const Sequence& sequence, int64_t positions) const;
  int64_t blocks_of_next_step(const Sequence& sequence) const;
  int64_t blocks_to_take(const Sequence& sequence) const;
  int64_t promised_blocks() const;
  bool fits(const Sequence& sequence, int64_t promised) const;

  const SchedulerLimits limits_;
  KvCache& kv_;
  std::unique_ptr<PrefixCache> prefixes_;  // null: nothing is reused
  std::set<Sequence*, ByOrder> waiting_;
  std::set<Sequence*, ByArrival> oldest_;  // the same, the first to come first
  std::vector<Sequence*> running_;         // in order
  int64_t lines_ = 0;                      // widths of running sequences
  int64_t reserved_ = 0;                   // blocks that running sequences need to their end
  uint64_t admissions_ = 0;                // so far
  std::vector<PassRows> pass_;
  std::vector<PassRows> prompts_;  // of the pass being planned
  std::vector<KvBlockCopy> copies_;
  std::vector<Sequence*> admitted_;
  int64_t preempted_ = 0;
  int64_t reused_blocks_ = 0;
};

}  // namespace headrace
