#include "engine/synthetic.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "engine/engine_reader.h"
#include "engine/format.h"
#include "engine/verify.h"
#include "tensor/float16.h"
#include "tests/support/error_matchers.h"
#include "tests/support/test_context.h"
#include "tests/support/tiny_engine.h"

namespace headrace {
namespace {

using testing::expect_error;
using testing::TestContext;
using testing::tiny_spec;
using testing::TinyModel;

std::vector<std::byte> read(const RandomAccessFile& file, uint64_t offset, uint64_t size) {
  std::vector<std::byte> bytes(size, std::byte{0xee});
  file.read(offset, bytes);
  return bytes;
}

std::vector<std::byte> read_all(const Engine& engine) {
  return read(engine.file(), 0, engine.file().size());
}

float value_at(std::span<const std::byte> bytes, size_t index, DType dtype) {
  const std::byte* const at = bytes.data() + index * dtype_size(dtype);
  if (dtype == DType::kFloat32) {
    float value;
    std::memcpy(&value, at, sizeof(value));
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, at, sizeof(bits));
  return dtype == DType::kFloat16 ? float16_to_float(bits) : bfloat16_to_float(bits);
}

/// Odd shapes, so that the file has padding of every kind, and all that it can hold.
TinyModel full_model(DType dtype) {
  return {.dtype = dtype, .qkv_bias = true, .dense_bias = true, .mlp_bias = true};
}

TEST(SyntheticFile, AnySplitOfReadsGivesTheSameBytes) {
  const Engine engine = Engine::synthetic(tiny_spec(full_model(DType::kFloat16)));
  const std::vector<std::byte> whole = read_all(engine);
  rc::check([&] {
    const auto begin = *rc::gen::inRange<uint64_t>(0, whole.size());
    const auto end = std::min<uint64_t>(whole.size(), begin + *rc::gen::inRange(0, 20000));
    const auto middle = *rc::gen::inRange<uint64_t>(begin, end + 1);
    std::vector<std::byte> pieces = read(engine.file(), begin, middle - begin);
    const std::vector<std::byte> rest = read(engine.file(), middle, end - middle);
    pieces.insert(pieces.end(), rest.begin(), rest.end());
    RC_ASSERT(
        std::equal(pieces.begin(), pieces.end(), whole.begin() + static_cast<ptrdiff_t>(begin)));
  });
}

TEST(SyntheticFile, DependsOnTheSeedAlone) {
  SyntheticSpec spec = tiny_spec({});
  const std::vector<std::byte> first = read_all(Engine::synthetic(spec));
  EXPECT_EQ(read_all(Engine::synthetic(spec)), first);
  spec.name = "another";
  EXPECT_EQ(read_all(Engine::synthetic(spec)), first);
  ++spec.seed;
  const std::vector<std::byte> other = read_all(Engine::synthetic(spec));
  size_t equal = 0;
  for (size_t i = 0; i < first.size(); ++i)
    equal += first[i] == other[i] && first[i] != std::byte{};
  EXPECT_LT(static_cast<double>(equal), 0.1 * static_cast<double>(first.size()));
}

/// What the values of a matrix are like.
struct Statistics {
  int64_t count = 0;
  double sum = 0;
  double size = 0;  // sum of |w|
  double squares = 0;
  double products = 0;  // of neighbours
  float least = std::numeric_limits<float>::max();
  float most = 0;

  void add(float value, float before) {
    ++count;
    sum += value;
    size += std::fabs(value);
    squares += static_cast<double>(value) * value;
    products += static_cast<double>(value) * before;
    least = std::min(least, std::fabs(value));
    most = std::max(most, std::fabs(value));
  }
};

TEST(SyntheticFile, ValuesAreSmallOfBothSignsAndUnrelated) {
  for (const DType dtype : {DType::kFloat32, DType::kFloat16, DType::kBFloat16}) {
    const Engine engine = Engine::synthetic(tiny_spec({.dtype = dtype}));
    const Manifest& manifest = engine.manifest();
    Statistics all;
    for (const TileInfo& tile : manifest.tiles) {
      const std::vector<std::byte> bytes = read(engine.file(), tile.offset, tile.stored_bytes);
      const auto k = static_cast<size_t>(manifest.matrices[tile.matrix].k);
      for (size_t row = 0; row < static_cast<size_t>(tile.rows); ++row) {
        const auto stored =
            std::span(bytes).subspan(row * tile.row_stride_bytes, tile.row_stride_bytes);
        for (size_t i = 1; i < k; ++i) {
          all.add(value_at(stored, i, dtype), value_at(stored, i - 1, dtype));
        }
        for (const std::byte padding : stored.subspan(k * dtype_size(dtype))) {
          ASSERT_EQ(padding, std::byte{0});
        }
      }
    }
    // Uniform in [2^-7, 2^-6) or [2^-6, 2^-5), half of the time each: |w| is (1.5 + 3) / 2 x 2^-7
    // on average, w^2 is (7/3 + 28/3) / 2 x 2^-14, where 7/3 is the mean of x^2 over [1, 2).
    const auto count = static_cast<double>(all.count);
    ASSERT_GT(count, 1e5);
    EXPECT_NEAR(all.size / count, 2.25 / 128, 1e-4);
    EXPECT_NEAR(all.squares / count, 35.0 / 6 / 16384, 5e-6);
    EXPECT_NEAR(all.sum / count, 0, 4 * 0.019 / std::sqrt(count));
    EXPECT_NEAR(all.products / count, 0, 4 * 0.019 * 0.019 / std::sqrt(count));
    EXPECT_GE(all.least, 1.0f / 128);
    EXPECT_LT(all.most, 1.0f / 32);
  }
}

TEST(SyntheticFile, PagesAndTheirHalvesDiffer) {
  const Engine engine = Engine::synthetic(tiny_spec({}));
  const TileInfo& tile = engine.manifest().tiles[0];
  ASSERT_GE(tile.stored_bytes, 8192u);
  const auto page = [&](uint64_t i) { return read(engine.file(), tile.offset + 2048 * i, 2048); };
  EXPECT_NE(page(0), page(1));
  EXPECT_NE(page(0), page(2));
  EXPECT_NE(page(1), page(3));
}

TEST(SyntheticFile, ChecksumsOfEmbeddingRowsAndVectorsAreRight) {
  TestContext test;
  for (const DType dtype : {DType::kFloat32, DType::kFloat16, DType::kBFloat16}) {
    const Engine engine = Engine::synthetic(tiny_spec(full_model(dtype)));
    // Tiles alone have none.
    const std::vector<std::string> damaged = verify_engine(engine, test.context);
    EXPECT_EQ(damaged.size(), engine.manifest().tiles.size());
    EXPECT_THAT(damaged, ::testing::Each(::testing::StartsWith("tile ")));
    for (const VectorInfo& vector : engine.manifest().vectors) {
      const bool norm = vector.role == Role::kInputNorm || vector.role == Role::kPostNorm ||
                        vector.role == Role::kFinalNorm;
      for (const float value : engine.read_vector(vector)) {
        if (norm) {
          ASSERT_TRUE(value >= 1.0f && value < 1.0625f) << value;
        } else {
          ASSERT_TRUE(std::fabs(value) >= 1.0f / 128 && std::fabs(value) < 1.0f / 32) << value;
        }
      }
    }
  }
}

TEST(SyntheticFile, EndsWhereItsManifestSays) {
  const Engine engine = Engine::synthetic(tiny_spec({}));
  EXPECT_EQ(engine.file().size(), engine.manifest().file_bytes);
  expect_error(ErrorCode::kCorrupt, "synthetic:tiny ends at byte",
               [&] { read(engine.file(), engine.file().size() - 1, 2); });
  EXPECT_TRUE(read(engine.file(), engine.file().size(), 0).empty());
}

TEST(SyntheticEngine, IsWhatItsSpecSays) {
  const SyntheticSpec spec = tiny_spec({.tie_word_embeddings = true});
  const Engine engine = Engine::synthetic(spec);
  EXPECT_TRUE(engine.is_synthetic());
  EXPECT_EQ(engine.weights_path(), "synthetic:tiny");
  EXPECT_TRUE(engine.manifest().embedding.tied);
  EXPECT_EQ(engine.build().max_seq_len, 256);
  EXPECT_EQ(engine.model().hidden_size, 72);
  const auto again = engine.open_weights(posix_file_system());
  EXPECT_EQ(read(*again, 4096, 9999), read(engine.file(), 4096, 9999));
}

}  // namespace
}  // namespace headrace
