#include "engine/manifest.h"

#include <gtest/gtest.h>

#include "tests/engine/golden_engine.h"

namespace headrace {
namespace {

TEST(Manifest, GroupsMatricesThatShareTheirInput) {
  Manifest manifest;
  for (const int32_t layer : {0, 1}) {
    for (const Role role : {Role::kQkv, Role::kDense, Role::kFc, Role::kGate, Role::kProj}) {
      manifest.matrices.push_back({.layer = layer, .role = role});
    }
  }
  manifest.matrices.push_back({.role = Role::kLmHead});
  const std::vector<MatrixGroup> groups = manifest.groups();
  ASSERT_EQ(groups.size(), 9u);
  const std::vector<uint32_t> first = {0, 1, 2, 4, 5, 6, 7, 9, 10};
  const std::vector<uint32_t> counts = {1, 1, 2, 1, 1, 1, 2, 1, 1};
  for (size_t g = 0; g < groups.size(); ++g) {
    EXPECT_EQ(groups[g].first_matrix, first[g]) << g;
    EXPECT_EQ(groups[g].matrix_count, counts[g]) << g;
    EXPECT_EQ(groups[g].layer, g == 8 ? -1 : static_cast<int32_t>(g / 4)) << g;
  }
}

TEST(Manifest, StreamableBytesAreThePayloadOfTheMatrices) {
  // bfloat16: qkv 30x20, dense 20x18, fc and gate 75x20, proj 20x75, lm_head 131x20
  EXPECT_EQ(testing::GoldenEngine().manifest().streamable_bytes(),
            2u * (600 + 360 + 1500 + 1500 + 1500 + 2620));
}

TEST(Manifest, FindsVectorsByLayerAndRole) {
  const Manifest manifest = testing::GoldenEngine().manifest();
  ASSERT_NE(manifest.find_vector(0, Role::kQkvBias), nullptr);
  EXPECT_EQ(manifest.find_vector(0, Role::kQkvBias)->count, 30);
  ASSERT_NE(manifest.find_vector(-1, Role::kFinalNorm), nullptr);
  EXPECT_EQ(manifest.find_vector(-1, Role::kFinalNorm)->role, Role::kFinalNorm);
  EXPECT_EQ(manifest.find_vector(0, Role::kDenseBias), nullptr);
  EXPECT_EQ(manifest.find_vector(1, Role::kInputNorm), nullptr);
}

}  // namespace
}  // namespace headrace
