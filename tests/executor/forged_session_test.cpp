#include <span>
#include <string>

#include <gtest/gtest.h>

#include "executor/session.h"
#include "tests/support/error_matchers.h"
#include "tests/support/forged_engine.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/test_context.h"
#include "tests/support/test_profile.h"
#include "tests/support/tiny_engine.h"

namespace headrace {
namespace {

using testing::expect_error;
using testing::TemporaryDirectory;
using testing::TestContext;
using testing::TinyModel;

struct Coded {
  const char* codec;
  DType dtype;
};

std::string name_of(const Coded& coded) {
  return std::string(coded.codec) + std::string(dtype_name(coded.dtype));
}

void PrintTo(const Coded& coded, std::ostream* out) { *out << name_of(coded); }

/// An engine whose checksums are right and of which a coded row has more escapes than room.
class ForgedSessionTest : public ::testing::TestWithParam<Coded> {
 protected:
  ForgedSessionTest() {
    TinyModel shape;
    shape.dtype = GetParam().dtype;
    shape.hidden_size = 1024;  // long enough for codes to pay
    shape.num_hidden_layers = 1;
    shape.vocab_size = 130;
    shape.tile_codec = GetParam().codec;
    options_.engine_dir = testing::make_tiny_engine(shape, directory_ / "engine");
    options_.device = "cpu";
    options_.profile_path = testing::write_test_profile(directory_ / "profile.json");
  }

  /// How many tokens one short request makes, with `percent` of the weights resident.
  size_t generate(double percent) {
    TestContext test(2);
    options_.budget.percent = percent;
    const auto session = Session::open(options_, test.context);
    const GenerationRequest request{
        .prompt = {5, 90, 17}, .max_new_tokens = 2, .end_ids = {}, .sampling = {}};
    return session->generate(std::span(&request, 1))[0].tokens.size();
  }

  TemporaryDirectory directory_;
  SessionOptions options_;
};

TEST_P(ForgedSessionTest, IsRefusedWhetherItsTilesAreLoadedOrStream) {
  EXPECT_EQ(generate(1.0), 2U);
  const uint32_t tile = testing::forge_escapes(options_.engine_dir);
  const std::string name = "tile " + std::to_string(tile) + " (layer 0 qkv, rows ";
  for (const VerifyMode mode : {VerifyMode::kFirst, VerifyMode::kAlways}) {
    options_.stream.verify = mode;
    for (const double percent : {0.0, 0.5, 1.0}) {
      expect_error(ErrorCode::kCorrupt, name, [&] { generate(percent); });
      expect_error(ErrorCode::kCorrupt, "has rows with more escapes than room: build",
                   [&] { generate(percent); });
    }
  }
}

TEST_P(ForgedSessionTest, IsTakenAsItIsIfNothingIsToBeChecked) {
  testing::forge_escapes(options_.engine_dir);
  options_.stream.verify = VerifyMode::kNever;
  for (const double percent : {0.0, 1.0}) {
    try {
      EXPECT_EQ(generate(percent), 2U);
    } catch (const Error& error) {  // its elements need not make numbers
      EXPECT_NE(std::string(error.what()).find("not a number"), std::string::npos) << error.what();
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Codecs, ForgedSessionTest,
                         ::testing::Values(Coded{"e3", DType::kBFloat16},
                                           Coded{"e4", DType::kBFloat16},
                                           Coded{"e3", DType::kFloat16}),
                         [](const auto& info) { return name_of(info.param); });

}  // namespace
}  // namespace headrace
