#include "tests/compat/clients/clients.h"

#include <algorithm>
#include <set>

#include "tests/compat/compat_fixture.h"

namespace headrace {
namespace {

using clients::AdvancedOptions;
using clients::Tokens;

class Clients : public testing::CompatTest {};

const std::vector<Tokens> kPrompts = {{1, 2, 3, 4}, {900, 5}, {17, 18, 19, 20, 21, 22}};

TEST_F(Clients, BasicGetsPromptAndOutput) {
  const Tokens output = clients::runBasic(engine());
  ASSERT_EQ(output.size(), 9U);
  EXPECT_EQ(Tokens(output.begin(), output.begin() + 4), (Tokens{1, 2, 3, 4}));
}

TEST_F(Clients, AdvancedGetsTheSameStreamedOrNot) {
  const auto whole = clients::runAdvanced(engine(), kPrompts, {.excludeInputFromOutput = true});
  const auto streamed = clients::runAdvanced(engine(), kPrompts, {.streaming = true});
  EXPECT_EQ(whole, streamed);
  for (const auto& sequences : whole) EXPECT_EQ(sequences.at(0).size(), 6U);
  // Greedy, so that the first tokens are those of the basic client.
  const Tokens basic = clients::runBasic(engine());
  EXPECT_TRUE(std::equal(basic.begin() + 4, basic.end(), whole[0][0].begin()));
}

TEST_F(Clients, AdvancedTellsSequencesApart) {
  const auto drawn = clients::runAdvanced(
      engine(), kPrompts, {.streaming = true, .beamWidth = 1, .numReturnSequences = 3});
  for (const auto& sequences : drawn) {
    ASSERT_EQ(sequences.size(), 3U);
    for (const Tokens& sequence : sequences) EXPECT_EQ(sequence.size(), 6U);
    EXPECT_GT(std::set(sequences.begin(), sequences.end()).size(), 1U);
  }
}

TEST_F(Clients, AdvancedSearchesWithBeams) {
  const AdvancedOptions options{.excludeInputFromOutput = true, .beamWidth = 3};
  const auto beams = clients::runAdvanced(engine(), kPrompts, options);
  AdvancedOptions first_two = options;
  first_two.numReturnSequences = 2;
  const auto fewer = clients::runAdvanced(engine(), kPrompts, first_two);
  for (size_t i = 0; i < beams.size(); ++i) {
    ASSERT_EQ(beams[i].size(), 3U);
    EXPECT_EQ(fewer[i], std::vector<Tokens>(beams[i].begin(), beams[i].begin() + 2));
  }
}

// Beams replace each other, so that upstream tells all of them with each response.
TEST_F(Clients, AdvancedStreamsBeamsWhole) {
  const auto beams = clients::runAdvanced(engine(), kPrompts, {.streaming = true, .beamWidth = 2});
  for (const auto& sequences : beams) {
    ASSERT_EQ(sequences.size(), 2U);
    for (const Tokens& told : sequences) EXPECT_EQ(told.size(), 1U + 2 + 3 + 4 + 5 + 6);
  }
}

TEST_F(Clients, AdvancedGetsNoMoreSequencesThanBeams) {
  const auto beams =
      clients::runAdvanced(engine(), kPrompts, {.beamWidth = 2, .numReturnSequences = 3});
  for (const auto& sequences : beams) EXPECT_EQ(sequences.size(), 2U);
}

TEST_F(Clients, AdvancedAsOrchestratorRunsInThisProcess) {
  EXPECT_EQ(clients::runAdvanced(engine(), kPrompts, {.useOrchestratorMode = true}),
            clients::runAdvanced(engine(), kPrompts, {}));
}

TEST_F(Clients, LogitsProcessorForcesItsTokens) {
  const Tokens expected = {42, 29, 42, 29, 42};
  EXPECT_EQ(clients::runLogitsProcessor(engine(), {42, 29}, 5, /*beforeV013=*/false), expected);
  EXPECT_EQ(clients::runLogitsProcessor(engine(), {42, 29}, 5, /*beforeV013=*/true), expected);
}

TEST_F(Clients, DebugWarnsAndGoesOn) {
  ::testing::internal::CaptureStderr();
  const Tokens output = clients::runDebug(engine());
  const std::string log = ::testing::internal::GetCapturedStderr();
  EXPECT_EQ(output.size(), 6U);
  EXPECT_NE(log.find("[TensorRT-LLM][WARNING] Debug tensor host_request_types"), std::string::npos);
}

}  // namespace
}  // namespace headrace
