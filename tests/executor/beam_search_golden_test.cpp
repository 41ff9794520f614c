// Beam searches of the golden models by this engine, against transformers'
// (tests/golden/beam_search/make_model_beams.py).

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
#include "tests/support/golden.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/test_context.h"

namespace headrace {
namespace {

using Json = nlohmann::json;
using testing::golden_path;

constexpr int64_t kSearches = 24;  // of each model
constexpr int64_t kBeams = 4;

constexpr const char* kProfile =
    R"({"machine": "test", "threads": 1, "link_gbps": 1.0, "memory_gbps": 10.0,
        "matmul_gflops": 10.0, "free_memory_bytes": 1000000000})";

/// One of the golden models, as an engine in float32 whose KV cache has small blocks.
class GoldenModel {
 public:
  explicit GoldenModel(const std::string& name) {
    const std::string folder = golden_path("models/" + name);
    convert_model(folder + "/hf", directory_ / "checkpoint", DType::kFloat32, context_.context);
    BuildConfig build;
    build.max_batch_size = kSearches;
    build.max_beam_width = kBeams;
    build.tokens_per_block = 8;
    build_engine(directory_ / "checkpoint", directory_ / "engine", build, context_.context);
    prompt_ = Json::parse("[" + testing::read_file(folder + "/prompt.csv") + "]")
                  .get<std::vector<int32_t>>();
    std::ofstream(directory_ / "profile.json") << kProfile;
    SessionOptions options;
    options.engine_dir = directory_ / "engine";
    options.profile_path = directory_ / "profile.json";
    options.device = "cpu";
    options.limits.max_sequences = kSearches;
    options.limits.max_beam_width = kBeams;
    session_ = Session::open(options, context_.context);
  }

  const std::vector<int32_t>& prompt() const { return prompt_; }

  /// All of them as one batch.
  std::vector<GenerationResult> generate(const std::vector<GenerationRequest>& requests) {
    return session_->generate(requests);
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
          .length_penalty = wanted["length_penalty"],
          .early_stopping = stop == "never" ? EarlyStopping::kNever
                            : stop == true  ? EarlyStopping::kWhenFull
                                            : EarlyStopping::kHeuristic};
}

void expect_beams(const std::vector<BeamHypothesis>& beams, const Json& wanted) {
  SCOPED_TRACE(wanted.dump());
  ASSERT_EQ(beams.size(), wanted["tokens"].size());
  for (size_t i = 0; i < beams.size(); ++i) {
    EXPECT_EQ(beams[i].tokens, wanted["tokens"][i].get<std::vector<int32_t>>()) << i;
    EXPECT_NEAR(beams[i].score, wanted["scores"][i].get<double>(), 1e-3) << i;
  }
}

TEST(BeamSearchModels, FindWhatTransformersFinds) {
  const Json golden = Json::parse(testing::read_file(golden_path("beam_search/models.json")));
  ASSERT_EQ(golden.size(), 96U);
  std::map<std::string, std::vector<Json>> by_model;
  for (const Json& wanted : golden) by_model[wanted["model"].get<std::string>()].push_back(wanted);
  EXPECT_EQ(by_model.size(), 4U);
  for (const auto& [name, searches] : by_model) {
    GoldenModel model(name);
    std::vector<GenerationRequest> requests;
    for (const Json& wanted : searches) {
      requests.push_back({.prompt = model.prompt(),
                          .max_new_tokens = wanted["max_new_tokens"],
                          .end_ids = wanted["end_ids"].get<std::vector<int32_t>>(),
                          .sampling = {},
                          .beams = options_of(wanted)});
    }
    const std::vector<GenerationResult> results = model.generate(requests);
    for (size_t i = 0; i < searches.size(); ++i) {
      expect_beams(results[i].beams, searches[i]);
      EXPECT_EQ(results[i].tokens, results[i].beams[0].tokens);
    }
  }
}

}  // namespace
}  // namespace headrace
