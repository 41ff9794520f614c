// What a scheduler does with beam searches among other sequences, on a cache whose contents are
// followed token by token.

#include <deque>
#include <limits>
#include <memory>
#include <random>
#include <set>
#include <vector>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "executor/scheduler.h"

namespace headrace {
namespace {

constexpr int64_t kBlockTokens = 4;
constexpr int64_t kMostBlocks = 100;
constexpr int64_t kVocab = 12;

KvCache make_kv(int64_t blocks) {
  const KvShape shape{.layers = 1, .kv_heads = 1, .head_dim = 1, .block_tokens = kBlockTokens};
  KvCache kv(shape, reserve_host(static_cast<size_t>(kMostBlocks) * shape.block_bytes(), "test"));
  EXPECT_TRUE(kv.resize(blocks));
  return kv;
}

std::vector<int32_t> tokens_of(const Sequence& sequence, int64_t line) {
  if (!sequence.beams) return sequence.ids;
  std::vector<int32_t> tokens(sequence.ids.begin(), sequence.ids.begin() + sequence.prompt_size);
  const auto generated = sequence.beams->tokens(line);
  tokens.insert(tokens.end(), generated.begin(), generated.end());
  return tokens;
}

/// The cache as a pass leaves it: which token each position of each block was computed from.
class Contents {
 public:
  explicit Contents(const KvCache& kv)
      : kv_(kv), tokens_(static_cast<size_t>(kMostBlocks * kBlockTokens), -1) {}

  void copy(std::span<const KvBlockCopy> copies) {
    std::set<int32_t> targets;
    for (const KvBlockCopy& copy : copies) {
      RC_ASSERT(targets.insert(copy.to).second);
      for (int64_t i = 0; i < kBlockTokens; ++i) {
        tokens_[static_cast<size_t>(copy.to * kBlockTokens + i)] =
            tokens_[static_cast<size_t>(copy.from * kBlockTokens + i)];
      }
    }
  }

  /// Writes the rows of a pass, and checks that only owned blocks are written.
  void write(const PassRows& rows) {
    const Sequence& sequence = *rows.sequence;
    const bool decoding = sequence.decoding();
    RC_ASSERT(static_cast<int64_t>(sequence.tables.size()) == sequence.lines());
    for (int64_t line = 0; line < sequence.lines(); ++line) {
      const std::vector<int32_t> ids = tokens_of(sequence, line);
      for (int64_t i = 0; i < (decoding ? 1 : rows.rows); ++i) {
        const int64_t at = sequence.cached + i;
        RC_ASSERT(kv_.reference_count(block(sequence, line, at)) == 1);
        slot(sequence, line, at) = ids[static_cast<size_t>(at)];
      }
    }
  }

  void forget_from(int64_t block) {
    std::fill(tokens_.begin() + block * kBlockTokens, tokens_.end(), -1);
  }

  /// Every line finds its own tokens in its table, up to what is computed.
  void check(const Sequence& sequence) {
    for (int64_t line = 0; line < sequence.lines(); ++line) {
      const std::vector<int32_t> ids = tokens_of(sequence, line);
      for (int64_t at = 0; at < sequence.cached; ++at) {
        RC_ASSERT(slot(sequence, line, at) == ids[static_cast<size_t>(at)]);
      }
    }
  }

 private:
  static int32_t block(const Sequence& sequence, int64_t line, int64_t at) {
    return sequence.tables[static_cast<size_t>(line)][static_cast<size_t>(at / kBlockTokens)];
  }
  int32_t& slot(const Sequence& sequence, int64_t line, int64_t at) {
    return tokens_[static_cast<size_t>(block(sequence, line, at) * kBlockTokens +
                                       at % kBlockTokens)];
  }

  const KvCache& kv_;
  std::vector<int32_t> tokens_;
};

SchedulerLimits random_limits() {
  SchedulerLimits limits;
  limits.max_sequences = *rc::gen::inRange<int64_t>(4, 12);
  limits.max_rows = limits.max_sequences + *rc::gen::inRange<int64_t>(0, 40);
  limits.max_logit_rows = limits.max_sequences;
  limits.reuse_prefixes = *rc::gen::arbitrary<bool>();
  limits.chunked_prompts = *rc::gen::arbitrary<bool>();
  limits.policy = *rc::gen::arbitrary<bool>() ? CapacityPolicy::kMaxUtilization
                                              : CapacityPolicy::kGuaranteedNoEvict;
  return limits;
}

/// Serves random sequences until all have ended.
class Driver {
 public:
  Driver(const SchedulerLimits& limits, int64_t blocks, uint32_t seed)
      : kv_(make_kv(blocks)), scheduler_(limits, kv_), contents_(kv_), random_(seed) {}

  int64_t draw(int64_t from, int64_t to) {
    return std::uniform_int_distribution<int64_t>(from, to)(random_);
  }

  void add() {
    SequenceOptions options{.max_new_tokens = draw(1, 20),
                            .priority = static_cast<float>(draw(0, 2)) / 2,
                            .arrival = all_.size()};
    const int64_t length = draw(1, 20);
    for (int64_t i = 0; i < length; ++i) {
      options.prompt.push_back(static_cast<int32_t>(i < 9 ? 7 : draw(0, kVocab - 1)));
    }
    if (draw(0, 1) == 1) options.end_ids = {3};
    options.beams.beam_width = static_cast<int32_t>(draw(1, 4));
    options.beams.early_stopping = EarlyStopping::kNever;
    constexpr int64_t kEnough = 30;  // four beams alone need up to 28
    if (kv_.blocks() < kEnough) RC_ASSERT(scheduler_.resize_cache(kEnough));
    scheduler_.add(*all_.emplace_back(std::make_unique<Sequence>(options)));
  }

  void remove_any() {
    const int64_t last = static_cast<int64_t>(all_.size()) - 1;
    if (last >= 0) scheduler_.remove(*all_[static_cast<size_t>(draw(0, last))]);
  }

  void step() {
    const std::vector<PassRows> pass = planned();
    contents_.copy(scheduler_.copies());
    for (const PassRows& rows : pass) contents_.write(rows);
    for (const PassRows& rows : pass) {
      Sequence& sequence = *rows.sequence;
      scheduler_.computed(rows);
      contents_.check(sequence);
      if (sequence.cached < sequence.known()) continue;
      std::vector<float> logits(static_cast<size_t>(sequence.lines() * kVocab));
      for (float& logit : logits) logit = static_cast<float>(draw(0, 1000)) / 100;
      // Now and then two tokens alone are left, for fewer beams than there may be.
      if (draw(0, 9) == 0) {
        for (size_t i = 0; i < logits.size(); ++i) {
          if (i % kVocab >= 2) logits[i] = -std::numeric_limits<float>::infinity();
        }
      }
      sequence.choose(logits);
      if (sequence.finished()) scheduler_.remove(sequence);
    }
  }

  /// Another number of blocks, often the least.
  void resize() {
    const int64_t least = scheduler_.least_blocks();
    const int64_t blocks = draw(0, 2) == 0 ? least : draw(least, kMostBlocks);
    if (blocks < kv_.blocks()) {
      const std::vector<KvBlockCopy> moves = scheduler_.vacate(blocks);
      for (const KvBlockCopy& move : moves) RC_ASSERT(move.from >= blocks && move.to < blocks);
      contents_.copy(moves);
      contents_.forget_from(blocks);
    }
    RC_ASSERT(scheduler_.resize_cache(blocks));
  }

  bool idle() const { return scheduler_.running() + scheduler_.waiting() == 0; }
  size_t arrived() const { return all_.size(); }
  int64_t free_blocks() const { return scheduler_.free_blocks(); }
  int64_t blocks() const { return kv_.blocks(); }

 private:
  std::vector<PassRows> planned() {
    const auto pass = scheduler_.next_pass();
    int64_t rows = 0;
    int64_t lines = 0;
    for (const PassRows& planned : pass) {
      rows += planned.rows;
      lines += planned.sequence->decoding() ? planned.rows : 1;
      RC_ASSERT(!planned.sequence->decoding() || planned.rows == planned.sequence->lines());
    }
    RC_ASSERT(rows <= scheduler_.limits().max_rows);
    RC_ASSERT(lines <= scheduler_.limits().max_sequences);
    RC_ASSERT(scheduler_.preempted() == 0 ||
              scheduler_.limits().policy == CapacityPolicy::kMaxUtilization);
    RC_ASSERT(idle() == pass.empty());
    return {pass.begin(), pass.end()};
  }

  KvCache kv_;
  Scheduler scheduler_;
  Contents contents_;
  std::mt19937 random_;
  std::vector<std::unique_ptr<Sequence>> all_;
};

RC_GTEST_PROP(BeamScheduling, EveryLineFindsItsTokensAndAllBlocksComeBack, ()) {
  const SchedulerLimits limits = random_limits();
  const auto blocks = *rc::gen::inRange<int64_t>(40, 70);
  Driver driver(limits, blocks, *rc::gen::arbitrary<uint32_t>());
  const auto arrivals = *rc::gen::inRange<size_t>(1, 25);
  for (int64_t passes = 0; !driver.idle() || driver.arrived() < arrivals; ++passes) {
    while (driver.arrived() < arrivals && driver.draw(0, 2) > 0) driver.add();
    if (driver.draw(0, 30) == 0) driver.remove_any();
    if (driver.draw(0, 10) == 0) driver.resize();
    driver.step();
    RC_ASSERT(passes < 20'000);
  }
  RC_ASSERT(driver.free_blocks() == driver.blocks());
}

TEST(BeamScheduling, BeamsCountAsManySequences) {
  KvCache kv = make_kv(100);
  Scheduler scheduler({.max_rows = 20, .max_logit_rows = 5, .max_sequences = 5}, kv);
  std::deque<Sequence> all;
  for (uint64_t i = 0; i < 3; ++i) {
    SequenceOptions options{.prompt = {1, 2, 3, 4, 5}, .max_new_tokens = 8, .arrival = i};
    options.beams.beam_width = i == 1 ? 3 : 2;
    scheduler.add(all.emplace_back(options));
  }
  ASSERT_EQ(scheduler.next_pass().size(), 2U);
  EXPECT_EQ(scheduler.waiting(), 1);
  // One line each until tokens are chosen; then a shared full block, and a last one for each beam.
  EXPECT_EQ(kv.free_blocks(), 100 - 2 * 2);
  for (size_t i = 0; i < 2; ++i) {
    scheduler.computed({.sequence = &all[i], .rows = 5});
    all[i].choose(std::vector<float>(kVocab, 0.0f));
  }
  const auto pass = scheduler.next_pass();
  ASSERT_EQ(pass.size(), 2U);
  EXPECT_EQ(pass[0].rows + pass[1].rows, 5);
  EXPECT_EQ(scheduler.copies().size(), 3U);
  EXPECT_EQ(kv.free_blocks(), 100 - (1 + 2) - (1 + 3));
  for (Sequence& sequence : all) scheduler.remove(sequence);
  EXPECT_EQ(kv.free_blocks(), 100);
}

TEST(BeamScheduling, APreemptedSearchStartsOver) {
  KvCache kv = make_kv(7);
  Scheduler scheduler({.max_rows = 20,
                       .max_logit_rows = 4,
                       .max_sequences = 4,
                       .policy = CapacityPolicy::kMaxUtilization},
                      kv);
  std::deque<Sequence> all;
  for (uint64_t i = 0; i < 2; ++i) {
    SequenceOptions options{.prompt = {1, 2, 3}, .max_new_tokens = 9, .arrival = i};
    options.beams.beam_width = 2;
    scheduler.add(all.emplace_back(options));
  }
  std::vector<float> logits(kVocab);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>(i);
  while (scheduler.preempted() == 0) {
    for (const PassRows& rows : scheduler.next_pass()) {
      scheduler.computed(rows);
      std::vector<float> lines;
      for (int64_t line = 0; line < rows.sequence->lines(); ++line) {
        lines.insert(lines.end(), logits.begin(), logits.end());
      }
      rows.sequence->choose(lines);
    }
    ASSERT_FALSE(all[0].finished());
  }
  EXPECT_EQ(all[1].preemptions, 1);
  EXPECT_EQ(all[1].ids, (std::vector<int32_t>{1, 2, 3}));
  EXPECT_EQ(all[1].lines(), 1);
  for (Sequence& sequence : all) scheduler.remove(sequence);
  EXPECT_EQ(kv.free_blocks(), 7);
}

}  // namespace
}  // namespace headrace
