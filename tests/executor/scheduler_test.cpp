#include "executor/scheduler.h"

#include <algorithm>
#include <deque>
#include <memory>
#include <random>
#include <set>
#include <vector>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "tests/executor/policies.h"

namespace headrace {
namespace {

constexpr int64_t kBlockTokens = 4;

KvCache make_kv(int64_t blocks) {
  const KvShape shape{.layers = 1, .kv_heads = 1, .head_dim = 1, .block_tokens = kBlockTokens};
  KvCache kv(shape, reserve_host(static_cast<size_t>(blocks) * shape.block_bytes(), "test"));
  EXPECT_TRUE(kv.resize(blocks));
  return kv;
}

std::unique_ptr<Sequence> make_sequence(uint64_t arrival, int64_t prompt, int64_t new_tokens,
                                        float priority = 0.5f, bool context_logits = false) {
  return std::make_unique<Sequence>(
      SequenceOptions{.request_id = arrival,
                      .prompt = std::vector<int32_t>(static_cast<size_t>(prompt), 1),
                      .max_new_tokens = new_tokens,
                      .priority = priority,
                      .arrival = arrival,
                      .context_logits = context_logits});
}

/// Runs passes the way a batch does: computes the rows, adds a token where all is computed.
class Driver {
 public:
  Driver(const SchedulerLimits& limits, int64_t blocks)
      : kv(make_kv(blocks)), scheduler(limits, kv) {}

  /// One pass; the ids of the sequences in it.
  std::vector<uint64_t> step() {
    std::vector<uint64_t> ids;
    for (const PassRows& rows : scheduler.next_pass()) {
      Sequence& sequence = *rows.sequence;
      ids.push_back(sequence.request_id);
      scheduler.computed(rows);
      if (sequence.context_logits) {
        sequence.context_done =
            std::max(sequence.context_done, std::min(sequence.cached, sequence.prompt_size));
      }
      if (sequence.cached < sequence.known()) continue;
      sequence.ids.push_back(2);
      if (sequence.generated() == sequence.max_new_tokens) scheduler.remove(sequence);
    }
    return ids;
  }

  KvCache kv;
  Scheduler scheduler;
};

bool done(const Sequence& sequence) { return sequence.place == Sequence::Place::kNowhere; }

TEST(Scheduler, DecodesFirstAndFillsThePassWithPrompts) {
  Driver driver({.max_rows = 8, .max_logit_rows = 4, .max_sequences = 4}, 100);
  const auto first = make_sequence(1, 3, 5);
  const auto second = make_sequence(2, 12, 5);
  driver.scheduler.add(*first);
  EXPECT_EQ(driver.step(), (std::vector<uint64_t>{1}));
  driver.scheduler.add(*second);
  const auto pass = driver.scheduler.next_pass();
  ASSERT_EQ(pass.size(), 2U);
  EXPECT_EQ(pass[0].sequence, first.get());
  EXPECT_EQ(pass[0].rows, 1);
  EXPECT_EQ(pass[1].sequence, second.get());
  EXPECT_EQ(pass[1].rows, 7);
}

TEST(Scheduler, TakesPriorityThenArrival) {
  Driver driver({.max_rows = 8, .max_logit_rows = 1, .max_sequences = 1}, 100);
  const auto late = make_sequence(1, 2, 1, 0.5f);
  const auto later = make_sequence(2, 2, 1, 0.5f);
  const auto urgent = make_sequence(3, 2, 1, 0.9f);
  for (const auto& sequence : {&late, &later, &urgent}) driver.scheduler.add(**sequence);
  EXPECT_EQ(driver.step(), (std::vector<uint64_t>{3}));
  EXPECT_EQ(driver.step(), (std::vector<uint64_t>{1}));
  EXPECT_EQ(driver.step(), (std::vector<uint64_t>{2}));
}

TEST(Scheduler, WithoutChunksAPromptWaitsForAPassThatHoldsItWhole) {
  SchedulerLimits limits{.max_rows = 10, .max_logit_rows = 2, .max_sequences = 2};
  limits.chunked_prompts = false;
  Driver driver(limits, 100);
  const auto first = make_sequence(1, 6, 1);
  const auto second = make_sequence(2, 6, 1);
  const auto long_one = make_sequence(3, 15, 1);
  for (const auto& sequence : {&first, &second, &long_one}) driver.scheduler.add(**sequence);
  EXPECT_EQ(driver.step(), (std::vector<uint64_t>{1}));
  EXPECT_EQ(driver.step(), (std::vector<uint64_t>{2, 3}));  // no pass holds 15 rows
  EXPECT_EQ(driver.step(), (std::vector<uint64_t>{3}));
  EXPECT_EQ(driver.step(), (std::vector<uint64_t>{3}));
  EXPECT_TRUE(done(*long_one));
}

TEST(Scheduler, ContextLogitsBoundTheRowsOfAPrompt) {
  Driver driver({.max_rows = 16, .max_logit_rows = 3, .max_sequences = 3}, 100);
  const auto wants = make_sequence(1, 7, 1, 0.5f, /*context_logits=*/true);
  driver.scheduler.add(*wants);
  for (const int64_t cached : {3, 6, 7}) {
    driver.step();
    EXPECT_EQ(done(*wants) ? 7 : wants->cached, cached);
  }
  EXPECT_TRUE(done(*wants));
}

TEST(Scheduler, GuaranteedAdmitsOnlyWhatIsSureToFit) {
  Driver driver({.max_rows = 16, .max_logit_rows = 4, .max_sequences = 4}, 5);
  const auto first = make_sequence(1, 4, 9);   // 12 positions: 3 blocks
  const auto second = make_sequence(2, 4, 9);  // the same: 1 too many
  const auto third = make_sequence(3, 4, 1);   // would fit, but it is not its turn
  for (const auto& sequence : {&first, &second, &third}) driver.scheduler.add(**sequence);
  for (int pass = 0; pass < 9; ++pass) EXPECT_EQ(driver.step(), (std::vector<uint64_t>{1}));
  EXPECT_EQ(driver.step(), (std::vector<uint64_t>{2, 3}));
}

TEST(Scheduler, MaxUtilizationPreemptsTheLastInOrderAndComputesItAgain) {
  Driver driver({.max_rows = 16,
                 .max_logit_rows = 4,
                 .max_sequences = 4,
                 .policy = CapacityPolicy::kMaxUtilization},
                5);
  const auto low = make_sequence(1, 4, 9, 0.1f);
  const auto high = make_sequence(2, 4, 9, 0.9f);
  for (const auto& sequence : {&low, &high}) driver.scheduler.add(**sequence);
  EXPECT_EQ(driver.step(), (std::vector<uint64_t>{2, 1}));
  int64_t preempted = 0;
  int passes = 1;
  for (; !done(*high); ++passes) {
    driver.step();
    preempted = driver.scheduler.preempted();
  }
  EXPECT_EQ(passes, 9);  // never held up
  EXPECT_EQ(preempted, 1);
  EXPECT_EQ(low->preemptions, 1);
  EXPECT_GT(low->generated(), 0);
  while (!done(*low)) ASSERT_FALSE(driver.step().empty());
  EXPECT_EQ(low->generated(), 9);
  EXPECT_EQ(driver.kv.free_blocks(), 5);
}

TEST(Scheduler, NobodyIsOvertakenForEver) {
  Driver driver({.max_rows = 8, .max_logit_rows = 2, .max_sequences = 2}, 100);
  std::deque<std::unique_ptr<Sequence>> all;
  const auto low = make_sequence(1, 2, 3, 0.0f);
  uint64_t arrival = 1;
  const auto add_high = [&] {
    all.push_back(make_sequence(++arrival, 2, 2, 1.0f));
    driver.scheduler.add(*all.back());
  };
  for (int i = 0; i < 3; ++i) add_high();
  driver.scheduler.add(*low);
  int passes = 0;
  for (; !done(*low); ++passes) {
    ASSERT_LT(passes, 1000);
    add_high();
    driver.step();
  }
  EXPECT_GT(passes, 10);  // its priority did count
}

/// Two sequences of three blocks each have computed a token.
class SchedulerResizing : public ::testing::TestWithParam<CapacityPolicy> {
 protected:
  SchedulerResizing() {
    for (const auto& sequence : sequences_) driver_.scheduler.add(*sequence);
    EXPECT_EQ(driver_.step(), (std::vector<uint64_t>{1, 2}));
  }

  Driver driver_{{.max_rows = 20, .max_logit_rows = 4, .max_sequences = 4, .policy = GetParam()},
                 10};
  std::vector<std::unique_ptr<Sequence>> sequences_ = [] {
    std::vector<std::unique_ptr<Sequence>> all;
    for (uint64_t i = 1; i <= 2; ++i) all.push_back(make_sequence(i, 5, 8));
    return all;
  }();
};

TEST_P(SchedulerResizing, LeastIsWhatThePolicyHasToKeep) {
  const bool keeps_all = GetParam() == CapacityPolicy::kGuaranteedNoEvict;
  EXPECT_EQ(driver_.scheduler.least_blocks(), keeps_all ? 6 : 3);
  const auto waiting = make_sequence(3, 30, 3);
  driver_.scheduler.add(*waiting);
  EXPECT_EQ(driver_.scheduler.least_blocks(), 8);
  driver_.scheduler.remove(*waiting);
}

TEST_P(SchedulerResizing, AllEndInTheLeastCache) {
  const int64_t least = driver_.scheduler.least_blocks();
  driver_.scheduler.vacate(least);
  ASSERT_TRUE(driver_.scheduler.resize_cache(least));
  const bool keeps_all = GetParam() == CapacityPolicy::kGuaranteedNoEvict;
  EXPECT_EQ(driver_.scheduler.running(), keeps_all ? 2 : 1);
  EXPECT_EQ(sequences_[1]->preemptions, keeps_all ? 0 : 1);
  while (!driver_.step().empty()) {
  }
  for (const auto& sequence : sequences_) EXPECT_EQ(sequence->generated(), 8);
  EXPECT_EQ(driver_.scheduler.free_blocks(), least);
}

INSTANTIATE_TEST_SUITE_P(Policies, SchedulerResizing, testing::all_policies(),
                         testing::policy_name);

struct Case {
  SchedulerLimits limits;
  int64_t blocks;
};

Case random_case() {
  Case made;
  made.limits.max_sequences = *rc::gen::inRange<int64_t>(1, 9);
  made.limits.max_rows = made.limits.max_sequences + *rc::gen::inRange<int64_t>(0, 40);
  made.limits.max_logit_rows = made.limits.max_sequences + *rc::gen::inRange<int64_t>(0, 8);
  made.limits.reuse_prefixes = *rc::gen::arbitrary<bool>();
  made.limits.chunked_prompts = *rc::gen::arbitrary<bool>();
  made.limits.policy = *rc::gen::arbitrary<bool>() ? CapacityPolicy::kMaxUtilization
                                                   : CapacityPolicy::kGuaranteedNoEvict;
  made.blocks = *rc::gen::inRange<int64_t>(20, 60);
  return made;
}

/// What must hold of every pass.
void check_pass(const Case& made, const Driver& driver, std::span<const PassRows> pass) {
  int64_t rows = 0;
  int64_t logit_rows = 0;
  bool prompts = false;
  std::set<int32_t> blocks;
  for (const PassRows& planned : pass) {
    const Sequence& sequence = *planned.sequence;
    RC_ASSERT(planned.rows >= 1 && sequence.cached + planned.rows <= sequence.known());
    // One that was preempted may find all but its last token in the cache.
    const bool admitted = std::ranges::count(driver.scheduler.admitted(), &sequence) > 0;
    RC_ASSERT(!(prompts && sequence.decoding() && !admitted));
    prompts = prompts || !sequence.decoding();
    rows += planned.rows;
    const int64_t last = sequence.cached + planned.rows;
    for (int64_t at = sequence.cached; at < last; ++at) {
      const bool context =
          sequence.context_logits && at >= sequence.context_done && at < sequence.prompt_size;
      logit_rows += context || at + 1 == sequence.known() ? 1 : 0;
    }
    RC_ASSERT(static_cast<int64_t>(sequence.tables[0].size()) * kBlockTokens >= last);
    for (const int32_t block : sequence.tables[0]) {
      RC_ASSERT(blocks.insert(block).second || made.limits.reuse_prefixes);
    }
  }
  RC_ASSERT(rows <= made.limits.max_rows);
  RC_ASSERT(logit_rows <= made.limits.max_logit_rows);
  RC_ASSERT(driver.scheduler.running() <= made.limits.max_sequences);
  if (made.limits.policy == CapacityPolicy::kGuaranteedNoEvict) {
    RC_ASSERT(driver.scheduler.preempted() == 0);
  }
}

RC_GTEST_PROP(SchedulerProperties, EveryRequestEndsAndAllBlocksComeBack, ()) {
  const Case made = random_case();
  Driver driver(made.limits, made.blocks);
  std::mt19937 random(*rc::gen::arbitrary<uint32_t>());
  const auto draw = [&](int64_t from, int64_t to) {
    return std::uniform_int_distribution<int64_t>(from, to)(random);
  };
  std::vector<std::unique_ptr<Sequence>> all;
  const auto arrivals = *rc::gen::inRange<size_t>(1, 40);
  int64_t tokens = 0;
  for (int64_t passes = 0;; ++passes) {
    while (all.size() < arrivals && draw(0, 2) > 0) {
      all.push_back(make_sequence(all.size(), draw(1, 50), draw(1, 30),
                                  static_cast<float>(draw(0, 4)) / 4, draw(0, 3) == 0));
      tokens += all.back()->final_positions() + 1;
      driver.scheduler.add(*all.back());
    }
    if (!all.empty() && draw(0, 20) == 0) {
      driver.scheduler.remove(
          *all[static_cast<size_t>(draw(0, static_cast<int64_t>(all.size()) - 1))]);
    }
    const bool idle = driver.scheduler.running() + driver.scheduler.waiting() == 0;
    if (idle && all.size() == arrivals) break;
    const auto pass = driver.scheduler.next_pass();
    check_pass(made, driver, pass);
    RC_ASSERT(idle == pass.empty());
    for (const PassRows& planned : pass) {
      Sequence& sequence = *planned.sequence;
      driver.scheduler.computed(planned);
      sequence.context_done =
          std::max(sequence.context_done, std::min(sequence.cached, sequence.prompt_size));
      if (sequence.cached < sequence.known()) continue;
      sequence.ids.push_back(2);
      if (sequence.generated() == sequence.max_new_tokens) driver.scheduler.remove(sequence);
    }
    // A row at least in each, and what preemption throws away is bounded by the tokens kept.
    RC_ASSERT(passes < 100 * (tokens + 100));
  }
  RC_ASSERT(driver.scheduler.free_blocks() == made.blocks);
}

}  // namespace
}  // namespace headrace
