// GGUF files as models to convert.

#include <set>
#include <utility>

#include <fmt/ranges.h>

#include "base/error.h"
#include "checkpoint/gguf.h"
#include "checkpoint/gguf_tokenizer.h"
#include "checkpoint/model_source.h"
#include "checkpoint/text_check.h"

namespace headrace {
namespace {

const Architecture& choose_architecture(const GgufFile& file) {
  const std::string* name = file.find_text("general.architecture");
  if (name == nullptr) {
    fail(ErrorCode::kCorrupt, "[gguf] {} has no general.architecture", file.path());
  }
  std::string known;
  for (const Architecture* architecture : architectures()) {
    if (architecture->gguf_name == *name) return *architecture;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", architecture->gguf_name);
  }
  fail(ErrorCode::kUnsupported, "[gguf] {}: general.architecture '{}' is not supported: {} is",
       file.path(), printable(*name), known);
}

class GgufSource : public ModelSource {
 public:
  GgufSource(FileSystem& fs, const std::string& path) : file_(GgufFile::open(fs, path)) {
    architecture_ = &choose_architecture(file_);
    config_ = architecture_->read_gguf(file_);
    validate_model_config(config_, path);
    config_.dtype = own_dtype();
    std::string tokenizer = gguf_tokenizer_json(file_);
    if (!tokenizer.empty()) {
      companions_.push_back({.name = kGgufTokenizerFile, .path = {}, .text = std::move(tokenizer)});
    }
  }

  const Architecture& architecture() const override { return *architecture_; }
  const ModelConfig& config() const override { return config_; }
  const std::vector<CompanionFile>& companion_files() const override { return companions_; }

  Stored find(const SourcePart& part) const override {
    const GgufTensor* tensor = file_.find(part.gguf_name);
    if (tensor == nullptr) {
      fail(ErrorCode::kNotFound, "[convert] {} has no tensor {}", file_.path(), part.gguf_name);
    }
    if (tensor->shape != part.shape) {
      fail(ErrorCode::kCorrupt, "[convert] {}: {} is [{}] where the metadata ask for [{}]",
           file_.path(), tensor->name, fmt::join(tensor->shape, ", "), fmt::join(part.shape, ", "));
    }
    return {.type = tensor->type,
            .file = 0,
            .index = static_cast<size_t>(tensor - file_.tensors().data()),
            .interleaved_heads = part.interleaved_heads};
  }

  void read(const Stored& stored, uint64_t byte_offset, std::span<std::byte> out) const override {
    file_.read(file_.tensors()[stored.index], byte_offset, out);
  }

  std::vector<std::string> tensor_names() const override {
    std::vector<std::string> names;
    for (const GgufTensor& tensor : file_.tensors()) names.push_back(tensor.name);
    return names;
  }

  const std::string& name_of(const SourcePart& part) const override { return part.gguf_name; }

 private:
  /// The type of the matrices, norms aside (GGUF keeps those in F32): bfloat16 if any is quantised
  /// or they differ.
  DType own_dtype() const {
    std::set<QuantType> types;
    for (const GgufTensor& tensor : file_.tensors()) {
      if (tensor.shape.size() == 2) types.insert(tensor.type);
    }
    if (types == std::set{QuantType::kF32}) return DType::kFloat32;
    if (types == std::set{QuantType::kF16}) return DType::kFloat16;
    return DType::kBFloat16;
  }

  const GgufFile file_;
  const Architecture* architecture_ = nullptr;
  ModelConfig config_;
  std::vector<CompanionFile> companions_;
};

}  // namespace

std::unique_ptr<ModelSource> open_gguf_source(FileSystem& fs, const std::string& path) {
  return std::make_unique<GgufSource>(fs, path);
}

std::unique_ptr<ModelSource> open_model_source(FileSystem& fs, Log& log, const std::string& path) {
  if (fs.is_directory(path)) return open_hugging_face_source(fs, log, path);
  if (!fs.exists(path)) {
    fail(ErrorCode::kNotFound,
         "[convert] there is no {}: give a Hugging Face folder or a GGUF file", path);
  }
  return open_gguf_source(fs, path);
}

}  // namespace headrace
