#include "executor/batch.h"

#include <array>
#include <map>
#include <memory>
#include <vector>

#include <gtest/gtest.h>

#include "executor/session.h"
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
  options.device = "cpu";
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

}  // namespace
}  // namespace headrace
