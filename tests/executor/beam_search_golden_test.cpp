// Beam searches of the golden models with this engine's logits, against transformers'
// (tests/golden/beam_search/make_model_beams.py). Every beam is computed anew in every step: slow,
// but it needs nothing of an executor.

#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "checkpoint/convert.h"
#include "engine/builder.h"
#include "executor/session.h"
#include "sampling/beam_search.h"
#include "tests/support/golden.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/test_context.h"

namespace headrace {
namespace {

using Json = nlohmann::json;
using testing::golden_path;

constexpr const char* kProfile =
    R"({"machine": "test", "threads": 1, "disk_gbps": 1.0, "memory_gbps": 10.0,
        "matmul_gflops": 10.0, "free_memory_bytes": 1000000000})";

class LogitsKeeper : public GenerationObserver {
 public:
  bool wants_logits() const override { return true; }
  void on_generation_logits(size_t request, int64_t, std::span<const float> logits) override {
    rows[request].assign(logits.begin(), logits.end());
  }
  std::map<size_t, std::vector<float>> rows;
};

/// One of the golden models, as an engine in float32.
class GoldenModel {
 public:
  explicit GoldenModel(const std::string& name) {
    const std::string folder = golden_path("models/" + name);
    convert_model(folder + "/hf", directory_ / "checkpoint", DType::kFloat32, context_.context);
    build_engine(directory_ / "checkpoint", directory_ / "engine", {}, context_.context);
    prompt_ = Json::parse("[" + testing::read_file(folder + "/prompt.csv") + "]")
                  .get<std::vector<int32_t>>();
    std::ofstream(directory_ / "profile.json") << kProfile;
    SessionOptions options;
    options.engine_dir = directory_ / "engine";
    options.profile_path = directory_ / "profile.json";
    options.device = "cpu";
    options.limits.max_sequences = 4;
    session_ = Session::open(options, context_.context);
  }

  const std::vector<int32_t>& prompt() const { return prompt_; }

  /// Gives `search` the rows of its beams.
  void give_rows(BeamSearch& search) {
    std::vector<GenerationRequest> requests(static_cast<size_t>(search.rows()));
    for (size_t i = 0; i < requests.size(); ++i) {
      const std::span<const int32_t> tokens = search.tokens(static_cast<int64_t>(i));
      requests[i].prompt = prompt_;
      requests[i].prompt.insert(requests[i].prompt.end(), tokens.begin(), tokens.end());
    }
    LogitsKeeper keeper;
    session_->generate(requests, &keeper);
    for (size_t i = 0; i < requests.size(); ++i) search.add_logits(keeper.rows[i]);
  }

 private:
  testing::TestContext context_;
  testing::TemporaryDirectory directory_;
  std::vector<int32_t> prompt_;
  std::unique_ptr<Session> session_;
};

BeamSearchOptions options_of(const Json& wanted) {
  const Json& stop = wanted["early_stopping"];
  return {.beam_width = wanted["num_beams"],
          .max_new_tokens = wanted["max_new_tokens"],
          .length_penalty = wanted["length_penalty"],
          .early_stopping = stop == "never" ? EarlyStopping::kNever
                            : stop == true  ? EarlyStopping::kWhenFull
                                            : EarlyStopping::kHeuristic};
}

TEST(BeamSearchModels, FindWhatTransformersFinds) {
  const Json golden = Json::parse(testing::read_file(golden_path("beam_search/models.json")));
  ASSERT_EQ(golden.size(), 48U);
  std::map<std::string, std::unique_ptr<GoldenModel>> models;
  for (const Json& wanted : golden) {
    SCOPED_TRACE(wanted.dump());
    std::unique_ptr<GoldenModel>& model = models[wanted["model"].get<std::string>()];
    if (!model) model = std::make_unique<GoldenModel>(wanted["model"].get<std::string>());
    BeamSearch search(options_of(wanted), {}, model->prompt(),
                      wanted["end_ids"].get<std::vector<int32_t>>());
    while (!search.done()) {
      model->give_rows(search);
      search.advance();
    }
    ASSERT_EQ(search.hypotheses().size(), wanted["tokens"].size());
    for (size_t beam = 0; beam < search.hypotheses().size(); ++beam) {
      const BeamHypothesis& found = search.hypotheses()[beam];
      EXPECT_EQ(found.tokens, wanted["tokens"][beam].get<std::vector<int32_t>>()) << beam;
      EXPECT_NEAR(found.score, wanted["scores"][beam].get<double>(), 1e-3) << beam;
    }
  }
  EXPECT_EQ(models.size(), 4U);
}

}  // namespace
}  // namespace headrace
