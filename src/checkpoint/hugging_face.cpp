// Model folders as Hugging Face's transformers writes them.

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/json_fields.h"
#include "checkpoint/model_source.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/text_check.h"

namespace headrace {
namespace {

using nlohmann::json;

constexpr uint64_t kMaxConfigBytes = uint64_t{4} << 20;
constexpr uint64_t kMaxIndexBytes = uint64_t{32} << 20;
constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";

QuantType to_quant_type(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return QuantType::kF32;
    case DType::kFloat16:
      return QuantType::kF16;
    case DType::kBFloat16:
      return QuantType::kBF16;
  }
  HR_CHECK(false);
}

const Architecture& choose_architecture(const JsonFields& fields) {
  const json* list = fields.find("architectures");
  if (list != nullptr) {
    if (!list->is_array() || list->size() != 1 || !list->front().is_string()) {
      fields.reject("architectures", "a list of one name works");
    }
    return find_architecture(list->front().get<std::string>(), fields.where());
  }
  const std::string type = fields.text("model_type");
  for (const Architecture* architecture : architectures()) {
    if (architecture->model_type == type) return *architecture;
  }
  fields.reject("model_type", "llama works");
}

class HuggingFaceSource : public ModelSource {
 public:
  HuggingFaceSource(FileSystem& fs, Log& log, std::string directory)
      : directory_(std::move(directory)) {
    const std::string config_path = join_path(directory_, "config.json");
    if (!fs.exists(config_path)) {
      fail(ErrorCode::kNotFound,
           "[convert] {} has no config.json: give a Hugging Face folder or a GGUF file",
           directory_);
    }
    const json root =
        parse_json_object(read_text_file(fs, config_path, kMaxConfigBytes), config_path);
    const JsonFields fields(root, config_path);
    architecture_ = &choose_architecture(fields);
    config_ = architecture_->read_hugging_face(fields);
    validate_model_config(config_, config_path);
    open_shards(fs);
    choose_dtype(fields);
    settle_tying(log);
    for (const std::string& name : fs.list(directory_)) {
      const std::string path = join_path(directory_, name);
      if (is_companion_file(name) && !fs.is_directory(path)) {
        companions_.push_back({.name = name, .path = path, .text = {}});
      }
    }
  }

  const Architecture& architecture() const override { return *architecture_; }
  const ModelConfig& config() const override { return config_; }
  const std::vector<CompanionFile>& companion_files() const override { return companions_; }

  Stored find(const SourcePart& part) const override {
    const auto found = shard_of_.find(part.hugging_face_name);
    if (found == shard_of_.end()) {
      fail(ErrorCode::kNotFound, "[convert] {} has no tensor {}", directory_,
           part.hugging_face_name);
    }
    const SafetensorsReader& shard = shards_[found->second];
    const TensorEntry* entry = shard.find(part.hugging_face_name);
    HR_CHECK(entry != nullptr);
    if (entry->shape != part.shape) {
      fail(ErrorCode::kCorrupt, "[convert] {}: {} is [{}] where config.json asks for [{}]",
           shard.path(), entry->name, fmt::join(entry->shape, ", "), fmt::join(part.shape, ", "));
    }
    if (!entry->dtype) {
      fail(ErrorCode::kUnsupported, "[convert] {}: {} has the type {}: F32, F16 and BF16 work",
           shard.path(), entry->name, printable(entry->stored_type));
    }
    return {.type = to_quant_type(*entry->dtype),
            .file = found->second,
            .index = static_cast<size_t>(entry - shard.entries().data()),
            .interleaved_heads = 0};
  }

  void read(const Stored& stored, uint64_t byte_offset, std::span<std::byte> out) const override {
    const SafetensorsReader& shard = shards_[stored.file];
    shard.read(shard.entries()[stored.index], byte_offset, out);
  }

  std::vector<std::string> tensor_names() const override {
    std::vector<std::string> names;
    for (const auto& [name, shard] : shard_of_) names.push_back(name);
    return names;
  }

  const std::string& name_of(const SourcePart& part) const override {
    return part.hugging_face_name;
  }

 private:
  void open_shards(FileSystem& fs) {
    const std::string index_path = join_path(directory_, kIndexFile);
    const std::string single_path = join_path(directory_, kSingleFile);
    if (fs.exists(index_path)) {
      open_indexed(fs, index_path);
    } else if (fs.exists(single_path)) {
      shards_.push_back(SafetensorsReader::open(fs, single_path));
      for (const TensorEntry& entry : shards_[0].entries()) shard_of_.emplace(entry.name, 0);
    } else {
      fail(ErrorCode::kNotFound,
           "[convert] {} has neither {} nor {}: save the model as safetensors "
           "(save_pretrained does)",
           directory_, kSingleFile, kIndexFile);
    }
  }

  void open_indexed(FileSystem& fs, const std::string& index_path) {
    const json root = parse_json_object(read_text_file(fs, index_path, kMaxIndexBytes), index_path);
    const JsonFields map = JsonFields(root, index_path).object("weight_map");
    std::map<std::string, size_t> numbers;
    for (const auto& [tensor, value] : map.object().items()) {
      if (!value.is_string()) {
        fail(ErrorCode::kCorrupt, "[convert] {}: the file of {} is not a text", index_path,
             printable(tensor));
      }
      const auto name = value.get<std::string>();
      if (name.empty() || name.find('/') != std::string::npos || name == ".." ||
          name.find('\0') != std::string::npos) {
        fail(ErrorCode::kCorrupt, "[convert] {}: '{}' is not the name of a file in this folder",
             index_path, printable(name));
      }
      const auto [number, fresh] = numbers.emplace(name, shards_.size());
      if (fresh) open_shard(fs, name);
      const size_t shard = number->second;
      if (shards_[shard].find(tensor) == nullptr) {
        fail(ErrorCode::kCorrupt, "[convert] {}: {} should be in {}, which does not hold it",
             index_path, printable(tensor), printable(name));
      }
      shard_of_.emplace(tensor, shard);
    }
    check_all_listed(index_path);
  }

  /// A tensor that the index forgets would be left out of the model.
  void check_all_listed(const std::string& index_path) const {
    for (size_t shard = 0; shard < shards_.size(); ++shard) {
      for (const TensorEntry& entry : shards_[shard].entries()) {
        const auto listed = shard_of_.find(entry.name);
        if (listed != shard_of_.end() && listed->second == shard) continue;
        fail(ErrorCode::kCorrupt,
             "[convert] {} does not list the tensor {} in the shard that holds it: download the "
             "model again",
             index_path, printable(entry.name));
      }
    }
  }

  void open_shard(FileSystem& fs, const std::string& name) {
    const std::string path = join_path(directory_, name);
    if (!fs.exists(path)) {
      fail(ErrorCode::kNotFound, "[convert] {} lacks the shard {} that {} lists: download it again",
           directory_, printable(name), kIndexFile);
    }
    shards_.push_back(SafetensorsReader::open(fs, path));
  }

  /// "dtype" (transformers 5) or "torch_dtype"; without either, the embedding's type.
  void choose_dtype(const JsonFields& fields) {
    const char* key = fields.has("dtype") ? "dtype" : "torch_dtype";
    if (fields.has(key)) {
      const std::string name = fields.text(key);
      for (const DType dtype : {DType::kFloat32, DType::kFloat16, DType::kBFloat16}) {
        if (dtype_name(dtype) == name) {
          config_.dtype = dtype;
          return;
        }
      }
      if (name != "auto") fields.reject(key, "float32, float16 and bfloat16 work");
    }
    const CheckpointTensor first = checkpoint_tensors(config_).front();
    const Stored stored = find(architecture_->parts(config_, first).front());
    config_.dtype = stored.type == QuantType::kF32   ? DType::kFloat32
                    : stored.type == QuantType::kF16 ? DType::kFloat16
                                                     : DType::kBFloat16;
  }

  /// A head beside tied embeddings is the model's own if its values differ.
  void settle_tying(Log& log) {
    if (!config_.tie_word_embeddings) return;
    const SourcePart embedding =
        architecture_->parts(config_, checkpoint_tensors(config_).front()).front();
    ModelConfig untied = config_;
    untied.tie_word_embeddings = false;
    const SourcePart head = architecture_->parts(untied, checkpoint_tensors(untied).back()).front();
    if (!shard_of_.contains(head.hugging_face_name)) return;
    if (equal(find(embedding), find(head))) return;
    log.warning("{}: config.json ties the embeddings, but {} differs from {}: used as it is",
                directory_, head.hugging_face_name, embedding.hugging_face_name);
    config_ = untied;
  }

  bool equal(const Stored& a, const Stored& b) const {
    if (a.type != b.type) return false;
    constexpr uint64_t kPieceBytes = uint64_t{4} << 20;
    const uint64_t size = shards_[a.file].entries()[a.index].size_bytes;
    std::vector<std::byte> left;
    std::vector<std::byte> right;
    for (uint64_t done = 0; done < size; done += left.size()) {
      left.resize(std::min(kPieceBytes, size - done));
      right.resize(left.size());
      read(a, done, left);
      read(b, done, right);
      if (left != right) return false;
    }
    return true;
  }

  const std::string directory_;
  const Architecture* architecture_ = nullptr;
  ModelConfig config_;
  std::vector<SafetensorsReader> shards_;
  std::map<std::string, size_t, std::less<>> shard_of_;
  std::vector<CompanionFile> companions_;
};

}  // namespace

std::unique_ptr<ModelSource> open_hugging_face_source(FileSystem& fs, Log& log,
                                                      const std::string& directory) {
  return std::make_unique<HuggingFaceSource>(fs, log, directory);
}

}  // namespace headrace
