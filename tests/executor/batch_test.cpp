#include "executor/batch.h"

#include <array>
#include <exception>
#include <map>
#include <memory>
#include <new>
#include <span>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "executor/session.h"
#include "tests/executor/executor_fixture.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/test_context.h"
#include "tests/support/test_profile.h"
#include "tests/support/tiny_engine.h"

namespace headrace {
namespace {

using testing::TemporaryDirectory;
using testing::TestContext;

/// Request, position and rows: what a pass holds.
using PassRecord = std::vector<std::array<int64_t, 3>>;

struct Outcome {
  std::vector<PassRecord> passes;
  std::map<uint64_t, std::vector<int32_t>> tokens;
  std::map<uint64_t, std::vector<float>> logits;
};

class Recorder : public BatchEvents {
 public:
  explicit Recorder(Outcome& outcome) : outcome_(outcome) {}
  void on_logits(Sequence& sequence, std::span<float> logits) override {
    std::vector<float>& all = outcome_.logits[sequence.request_id];
    all.insert(all.end(), logits.begin(), logits.end());
  }
  bool on_token(Sequence& sequence) override {
    outcome_.tokens[sequence.request_id].push_back(sequence.ids.back());
    return true;
  }
  void on_failure(Sequence&, std::exception_ptr) override { ADD_FAILURE(); }

 private:
  Outcome& outcome_;
};

/// Sequences that arrive at fixed passes, one of which is taken out, on an engine whose canonical
/// class holds 8 rows.
Outcome run(double percent, int threads) {
  TemporaryDirectory directory;
  TestContext test(threads);
  SessionOptions options;
  options.synthetic = testing::tiny_spec({.canonical_rows = 8});
  options.device = testing::test_device();
  options.budget.percent = percent;
  options.limits = {.max_sequences = 4, .max_sequence_tokens = 100, .kv_tokens = 80};
  options.prefill_chunk = 16;
  options.profile_path = testing::write_test_profile(directory / "profile.json");
  const auto session = Session::open(options, test.context);
  SchedulerLimits limits = session->scheduler_limits();
  limits.policy = CapacityPolicy::kMaxUtilization;
  limits.reuse_prefixes = true;

  std::vector<std::unique_ptr<Sequence>> sequences;
  Outcome outcome;
  Recorder recorder(outcome);
  Batch batch(limits, session->kv());
  for (uint64_t pass = 0;; ++pass) {
    if (pass % 2 == 0 && sequences.size() < 9) {
      const auto length = 3 + 5 * sequences.size();
      sequences.push_back(
          std::make_unique<Sequence>(SequenceOptions{.request_id = pass,
                                                     .prompt = std::vector<int32_t>(length, 11),
                                                     .max_new_tokens = 20,
                                                     .priority = static_cast<float>(pass % 3) / 2,
                                                     .arrival = pass,
                                                     .logits_use = LogitsUse::kEach}));
      batch.add(*sequences.back());
    }
    if (pass == 9) batch.remove(*sequences[2]);
    if (percent != 1.0 && pass == 12) session->set_budget({.percent = 0.7, .bytes = {}});
    if (!batch.step(session->resources(), recorder)) break;
    outcome.passes.emplace_back();
    for (const PassRows& rows : batch.pass()) {
      outcome.passes.back().push_back({static_cast<int64_t>(rows.sequence->request_id),
                                       rows.sequence->cached - rows.rows, rows.rows});
    }
  }
  EXPECT_GT(batch.scheduler().reused_blocks(), 0);
  EXPECT_EQ(batch.scheduler().free_blocks(), session->kv().blocks());
  return outcome;
}

/// What docs/numerics.md promises where classes of rows are bounded: equal arrivals make equal
/// passes, at every percentage, and equal passes make equal bits.
TEST(Batch, PassesAreAFunctionOfArrivalsAlone) {
  const Outcome expected = run(1.0, 1);
  EXPECT_GT(expected.passes.size(), 30U);
  for (const double percent : {0.0, 0.4}) {
    const Outcome actual = run(percent, 2);
    EXPECT_EQ(actual.passes, expected.passes) << percent;
    EXPECT_EQ(actual.tokens, expected.tokens) << percent;
    EXPECT_EQ(actual.logits, expected.logits) << percent;
  }
}

/// Request 1 has two sequences; every handler throws for the first of them, in its turn.
class FailingHandlers : public BatchEvents {
 public:
  enum class Handler { kContextLogits, kLogits, kToken };
  using Sequences = std::vector<std::unique_ptr<Sequence>>;

  FailingHandlers(Handler failing, Batch& batch, const Sequences& sequences)
      : failing_(failing), batch_(batch), sequences_(sequences) {}

  void on_context_logits(Sequence& sequence, int64_t, std::span<const float>) override {
    called(Handler::kContextLogits, sequence);
  }
  void on_logits(Sequence& sequence, std::span<float>) override {
    called(Handler::kLogits, sequence);
  }
  bool on_token(Sequence& sequence) override {
    called(Handler::kToken, sequence);
    ++tokens[sequence.request_id];
    return true;
  }
  void on_failure(Sequence& sequence, std::exception_ptr error) override {
    EXPECT_THROW(std::rethrow_exception(error), std::bad_alloc);
    ++failures[sequence.request_id];
    for (const auto& other : sequences_) {
      if (other->request_id == sequence.request_id) batch_.remove(*other);
    }
  }

  std::map<uint64_t, int> failures;
  std::map<uint64_t, int> tokens;

 private:
  void called(Handler handler, const Sequence& sequence) {
    EXPECT_EQ(failures[sequence.request_id], 0) << "told of a sequence that is gone";
    const bool fails = sequence.request_id == 1 && sequence.index == 0;
    if (handler == failing_ && fails) throw std::bad_alloc();
  }

  const Handler failing_;
  Batch& batch_;
  const Sequences& sequences_;
};

TEST(Batch, WhatAHandlerThrowsFailsItsSequenceAndThoseThatGoWithIt) {
  TemporaryDirectory directory;
  TestContext test(1);
  SessionOptions options;
  options.synthetic = testing::tiny_spec({});
  options.device = testing::test_device();
  options.limits = {.max_sequences = 4, .max_sequence_tokens = 100, .context_logits = true};
  options.profile_path = testing::write_test_profile(directory / "profile.json");
  const auto session = Session::open(options, test.context);
  using Handler = FailingHandlers::Handler;
  for (const Handler failing : {Handler::kContextLogits, Handler::kLogits, Handler::kToken}) {
    Batch batch(session->scheduler_limits(), session->kv());
    FailingHandlers::Sequences sequences;
    FailingHandlers handlers(failing, batch, sequences);
    for (const auto& [request, index] : {std::pair<uint64_t, int32_t>{1, 0}, {1, 1}, {2, 0}}) {
      sequences.push_back(
          std::make_unique<Sequence>(SequenceOptions{.request_id = request,
                                                     .index = index,
                                                     .prompt = {1, 2, 3},
                                                     .max_new_tokens = 4,
                                                     .arrival = request,
                                                     .context_logits = true,
                                                     .logits_use = LogitsUse::kEach}));
      batch.add(*sequences.back());
    }
    while (batch.step(session->resources(), handlers)) {
    }
    EXPECT_EQ(handlers.failures[1], 1);
    EXPECT_EQ(handlers.failures[2], 0);
    EXPECT_EQ(handlers.tokens[1], 0);
    EXPECT_EQ(handlers.tokens[2], 4);
    EXPECT_EQ(batch.scheduler().free_blocks(), session->kv().blocks());
  }
}

}  // namespace
}  // namespace headrace
