#include "stream/embedding_reader.h"

#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>

#include <gtest/gtest.h>

#include "tests/support/error_matchers.h"
#include "tests/support/host_backend.h"
#include "tests/support/safetensors_file.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/test_context.h"
#include "tests/support/tiny_engine.h"

namespace headrace {
namespace {

using testing::expect_error;
using testing::HostBackend;
using testing::TemporaryDirectory;
using testing::TestContext;
using testing::TinyModel;

/// The table as make_tiny_checkpoint() draws it: its first tensor.
std::vector<std::byte> table_of(const TinyModel& model) {
  const float scale = 1.5f / std::sqrt(static_cast<float>(model.hidden_size));
  return testing::to_bytes(
      testing::random_values(model.seed * 1000003 + 1, model.vocab_size * model.hidden_size, scale),
      model.dtype);
}

struct Fixture {
  Fixture(const TinyModel& model, double percent)
      : row_bytes(static_cast<size_t>(model.hidden_size) * dtype_size(model.dtype)),
        engine(
            Engine::open(posix_file_system(), testing::make_tiny_engine(model, folder / "engine"))),
        stream(engine, make_plan(engine.manifest(), {}, {.budget = {.percent = percent}}), {},
               backend, test.context),
        reader(engine, stream) {
    stream.load_resident();
  }

  std::vector<std::byte> gather(const std::vector<int32_t>& ids) {
    std::vector<std::byte> out(ids.size() * row_bytes);
    reader.gather(ids, out.data());
    return out;
  }

  const TemporaryDirectory folder;
  const size_t row_bytes;
  HostBackend backend;
  TestContext test;
  Engine engine;
  WeightStream stream;
  EmbeddingReader reader;
};

TEST(EmbeddingReaderTest, GathersRowsFromFileOrArena) {
  for (const bool tied : {false, true}) {
    for (const DType dtype : {DType::kFloat16, DType::kFloat32}) {
      TinyModel model;
      model.dtype = dtype;
      model.tie_word_embeddings = tied;
      const std::vector<std::byte> table = table_of(model);
      for (const double percent : {0.0, 0.5, 1.0}) {
        Fixture f(model, percent);
        const std::vector<int32_t> ids = {0, 1002, 5, 5, 500, 63, 64, 999};
        const std::vector<std::byte> rows = f.gather(ids);
        for (size_t i = 0; i < ids.size(); ++i) {
          EXPECT_EQ(
              std::memcmp(rows.data() + i * f.row_bytes,
                          table.data() + static_cast<size_t>(ids[i]) * f.row_bytes, f.row_bytes),
              0)
              << "token " << ids[i] << (tied ? " tied" : "");
        }
        EXPECT_EQ(f.stream.counters().embedding_bytes, ids.size() * f.row_bytes);
        const uint64_t read = f.stream.counters().embedding_read_bytes;
        if (tied && percent == 1.0) {
          EXPECT_EQ(read, 0u);
        } else if (tied && percent == 0.0) {
          EXPECT_EQ(read, ids.size() * f.row_bytes);
        } else if (!tied) {
          EXPECT_GT(read, ids.size() * f.row_bytes);  // each row with its checksum
        }
      }
    }
  }
}

TEST(EmbeddingReaderTest, ATokenOutsideTheVocabularyIsAnError) {
  Fixture f({}, 0);
  for (const int32_t id : {-1, 1003, std::numeric_limits<int32_t>::max()}) {
    expect_error(ErrorCode::kInvalidArgument, "use 0 to 1002", [&] { f.gather({3, id}); });
  }
}

TEST(EmbeddingReaderTest, AFlippedBitInARowIsAnError) {
  Fixture f({}, 0);
  const EmbeddingInfo& table = f.engine.manifest().embedding;
  std::fstream file(f.engine.weights_path(), std::ios::in | std::ios::out | std::ios::binary);
  const auto at = static_cast<std::streamoff>(table.offset + 7 * table.row_stride_bytes + 1);
  file.seekg(at);
  const auto byte = static_cast<char>(file.get());
  file.seekp(at);
  file.put(static_cast<char>(byte ^ 2));
  file.close();
  EXPECT_NO_THROW(f.gather({6, 8}));
  expect_error(ErrorCode::kCorrupt, "embedding row 7 of", [&] { f.gather({6, 7}); });
}

}  // namespace
}  // namespace headrace
