#include "checkpoint/checkpoint.h"

#include <algorithm>
#include <array>

#include <fmt/ranges.h>

#include "base/error.h"
#include "checkpoint/tensor_layout.h"
#include "checkpoint/text_check.h"

namespace headrace {
namespace {

constexpr uint64_t kMaxConfigBytes = uint64_t{4} << 20;

constexpr std::array<std::string_view, 12> kCompanionFiles = {
    "added_tokens.json",      "chat_template.jinja", "chat_template.json",
    "generation_config.json", "merges.txt",          "special_tokens_map.json",
    "tokenizer.json",         "tokenizer.model",     "tokenizer_config.json",
    "tokenizer_gguf.json",    "vocab.json",          "vocab.txt"};

void check_tensors(const ModelConfig& config, const SafetensorsReader& reader) {
  const std::vector<CheckpointTensor> expected = checkpoint_tensors(config);
  for (const CheckpointTensor& tensor : expected) {
    const std::string name = tensor.full_name();
    const TensorEntry* entry = reader.find(name);
    if (entry == nullptr) {
      fail(ErrorCode::kNotFound, "[checkpoint] {} has no tensor {}: convert the model again",
           reader.path(), name);
    }
    if (entry->shape != tensor.shape || entry->dtype != config.dtype) {
      fail(ErrorCode::kCorrupt,
           "[checkpoint] {}: {} is {} [{}] where config.json asks for {} [{}]: convert the model "
           "again",
           reader.path(), name, entry->stored_type, fmt::join(entry->shape, ", "),
           dtype_name(config.dtype), fmt::join(tensor.shape, ", "));
    }
  }
  if (reader.entries().size() == expected.size()) return;
  std::vector<std::string> names;
  for (const CheckpointTensor& tensor : expected) names.push_back(tensor.full_name());
  std::ranges::sort(names);
  for (const TensorEntry& entry : reader.entries()) {
    if (std::ranges::binary_search(names, entry.name)) continue;
    fail(ErrorCode::kCorrupt,
         "[checkpoint] {} holds the tensor {}, which config.json does not speak of: convert the "
         "model again",
         reader.path(), printable(entry.name));
  }
}

}  // namespace

bool is_companion_file(std::string_view name) {
  return std::ranges::find(kCompanionFiles, name) != kCompanionFiles.end();
}

void check_output_folder(FileSystem& fs, const std::string& directory, std::string_view place,
                         std::string_view other) {
  for (const std::string_view name :
       {std::string_view("model.safetensors"), std::string_view("model.safetensors.index.json"),
        std::string_view("pytorch_model.bin"), other}) {
    if (!fs.exists(join_path(directory, name))) continue;
    fail(ErrorCode::kInvalidArgument,
         "[{}] {} holds {}, whose config.json would be lost: choose another output folder", place,
         directory, name);
  }
}

Checkpoint Checkpoint::open(FileSystem& fs, const std::string& directory) {
  const std::string config_path = join_path(directory, "config.json");
  ModelConfig config =
      parse_model_config(read_text_file(fs, config_path, kMaxConfigBytes), config_path);
  SafetensorsReader tensors =
      SafetensorsReader::open(fs, join_path(directory, kCheckpointWeightsFile));
  check_tensors(config, tensors);
  std::vector<std::string> companions;
  for (std::string& name : fs.list(directory)) {
    if (is_companion_file(name) && !fs.is_directory(join_path(directory, name))) {
      companions.push_back(std::move(name));
    }
  }
  return {directory, std::move(config), std::move(tensors), std::move(companions)};
}

}  // namespace headrace
