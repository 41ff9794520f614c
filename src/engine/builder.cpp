#include "engine/builder.h"

#include <algorithm>
#include <bit>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/output_directory.h"
#include "base/progress.h"
#include "base/version.h"
#include "checkpoint/checkpoint.h"
#include "engine/engine_writer.h"
#include "engine/format.h"
#include "engine/layout.h"
#include "engine/little_endian.h"
#include "tensor/float16.h"

namespace headrace {
namespace {

TensorSpec embedding_spec(const ModelConfig& config) {
  return {.role = Role::kEmbedding, .rows = config.vocab_size, .k = config.hidden_size};
}

std::vector<float> widen(std::span<const std::byte> bytes, DType dtype) {
  std::vector<float> values(bytes.size() / dtype_size(dtype));
  LittleEndianReader in(bytes);
  for (float& value : values) {
    switch (dtype) {
      case DType::kFloat32:
        value = std::bit_cast<float>(in.take<uint32_t>());
        break;
      case DType::kFloat16:
        value = float16_to_float(in.take<uint16_t>());
        break;
      case DType::kBFloat16:
        value = bfloat16_to_float(in.take<uint16_t>());
        break;
    }
  }
  return values;
}

/// Feeds the tensors of a checkpoint to an EngineWriter in the order that it wants.
class EngineBuilder {
 public:
  /// Finds every tensor before anything is written, or laid out for a forged number of layers.
  EngineBuilder(const Checkpoint& checkpoint, bool coded, Progress& progress)
      : checkpoint_(checkpoint),
        config_(checkpoint.config()),
        progress_(progress),
        total_bytes_(check_tensors(coded ? 2 : 1)) {}

  void run(EngineWriter& writer) {
    progress_.start("build", total_bytes_, "bytes");
    for (int64_t i = 0; i < matrix_count(config_); ++i) {
      const TensorSpec spec = matrix_spec(config_, i);
      writer.add_matrix(spec, row_reader(spec));
    }
    if (!config_.tie_word_embeddings) writer.add_embedding(row_reader(embedding_spec(config_)));
    for (int64_t i = 0; i < vector_count(config_); ++i) {
      const TensorSpec spec = vector_spec(config_, i);
      writer.add_vector(spec, read_vector(spec));
    }
    progress_.finish();
  }

 private:
  /// The bytes of all tensors, those of matrices as often as they are read.
  uint64_t check_tensors(uint64_t matrix_reads) const {
    uint64_t bytes = 0;
    for (int64_t i = 0; i < matrix_count(config_); ++i) {
      bytes += matrix_reads * find(matrix_spec(config_, i)).size_bytes;
    }
    for (int64_t i = 0; i < vector_count(config_); ++i) {
      bytes += find(vector_spec(config_, i)).size_bytes;
    }
    if (!config_.tie_word_embeddings) bytes += find(embedding_spec(config_)).size_bytes;
    return bytes;
  }

  const TensorEntry& find(const TensorSpec& spec) const {
    std::string name = checkpoint_name(spec.layer, spec.role);
    if (spec.role == Role::kLmHead && config_.tie_word_embeddings) {
      name = checkpoint_name(-1, Role::kEmbedding);
    }
    const TensorEntry* tensor = checkpoint_.tensors().find(name);
    if (tensor == nullptr) {
      fail(ErrorCode::kNotFound, "[build] the checkpoint has no tensor {}: convert the model again",
           name);
    }
    std::vector<int64_t> shape = {spec.rows};
    if (spec.k != 0) shape.push_back(spec.k);
    if (tensor->shape != shape || tensor->dtype != config_.dtype) {
      fail(ErrorCode::kCorrupt,
           "[build] {} is {} [{}] where config.json asks for {} [{}]: convert the model again",
           name, tensor->stored_type, fmt::join(tensor->shape, ", "), dtype_name(config_.dtype),
           fmt::join(shape, ", "));
    }
    return *tensor;
  }

  RowReader row_reader(const TensorSpec& spec) {
    const TensorEntry& tensor = find(spec);
    const uint64_t bytes_per_row = row_bytes(spec.k, config_.dtype);
    return [this, &tensor, bytes_per_row](int64_t row_begin, int64_t, std::span<std::byte> out) {
      checkpoint_.tensors().read(tensor, static_cast<uint64_t>(row_begin) * bytes_per_row, out);
      progress_.update(done_bytes_ += out.size());
    };
  }

  std::vector<float> read_vector(const TensorSpec& spec) {
    const TensorEntry& tensor = find(spec);
    std::vector<std::byte> bytes(tensor.size_bytes);
    checkpoint_.tensors().read(tensor, 0, bytes);
    progress_.update(done_bytes_ += bytes.size());
    return widen(bytes, config_.dtype);
  }

  const Checkpoint& checkpoint_;
  const ModelConfig& config_;
  Progress& progress_;
  const uint64_t total_bytes_;
  uint64_t done_bytes_ = 0;
};

/// Refuses what the format cannot state before anything is read.
void check_limits(const ModelConfig& config) {
  const int64_t widest = std::max({config.hidden_size, config.intermediate_size, config.q_size()});
  if (widest > kMaxColumns || config.vocab_size > kMaxRows) {
    fail(ErrorCode::kUnsupported,
         "[build] a matrix of the model has {} columns or {} rows: at most {} and {} can be built",
         widest, config.vocab_size, kMaxColumns, kMaxRows);
  }
}

std::string config_text(const ModelConfig& model, const BuildConfig& build) {
  nlohmann::ordered_json config;
  config["version"] = version();
  config["pretrained_config"] = nlohmann::ordered_json::parse(model_config_to_json(model));
  config["build_config"] = nlohmann::ordered_json::parse(build_config_to_json(build));
  return config.dump(2) + "\n";
}

std::map<std::string, double> shares_of_raw(const std::map<CodecId, uint64_t>& bytes_with) {
  std::map<std::string, double> shares;
  for (const auto& [codec, bytes] : bytes_with) {
    if (codec == CodecId::kRaw) continue;
    shares[codec_name(codec)] =
        static_cast<double>(bytes) / static_cast<double>(bytes_with.at(CodecId::kRaw));
  }
  return shares;
}

}  // namespace

BuildReport build_engine(const std::string& checkpoint_dir, const std::string& output_dir,
                         const BuildConfig& config, Context& context) {
  const int64_t start_ns = context.clock.now_ns();
  const Checkpoint checkpoint = Checkpoint::open(context.fs, checkpoint_dir);
  check_limits(checkpoint.config());
  const BuildConfig resolved = resolve_build_config(config, checkpoint.config(), context.log);
  check_output_folder(context.fs, output_dir, "build", kCheckpointWeightsFile);
  std::vector<CodecId> codecs = allowed_codecs(resolved.tile_codec, checkpoint.config().dtype);
  EngineBuilder builder(checkpoint, !codecs.empty(), context.progress);
  OutputDirectory output(context.fs, output_dir);
  Manifest manifest;
  std::map<std::string, double> codec_shares;
  {
    const auto file = output.create("rank0.engine");
    EngineWriter writer(*file, checkpoint.config(), resolved.tile_bytes, std::move(codecs),
                        context.pool);
    builder.run(writer);
    manifest = writer.finish();
    codec_shares = shares_of_raw(writer.bytes_with());
    file->sync();
  }
  for (const std::string& name : checkpoint.companion_files()) {
    output.copy_file(name, join_path(checkpoint_dir, name));
  }
  output.write_text("config.json", config_text(checkpoint.config(), resolved));
  output.commit();
  return {.matrices = static_cast<int64_t>(manifest.matrices.size()),
          .tiles = static_cast<int64_t>(manifest.tiles.size()),
          .streamable_bytes = manifest.streamable_bytes(),
          .payload_bytes = manifest.payload_bytes(),
          .file_bytes = manifest.file_bytes,
          .seconds = static_cast<double>(context.clock.now_ns() - start_ns) * 1e-9,
          .codec_shares = std::move(codec_shares)};
}

}  // namespace headrace
