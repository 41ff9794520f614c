#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/log.h"
#include "checkpoint/architecture.h"
#include "checkpoint/model_config.h"
#include "checkpoint/quant_blocks.h"

namespace headrace {

/// A file that goes into the checkpoint beside the weights: a copy of `path`, or, where that is
/// empty, `text`.
struct CompanionFile {
  std::string name;
  std::string path;
  std::string text;
};

/// A model as somebody else stores it, open for conversion. Immutable, so thread-safe.
class ModelSource {
 public:
  /// Where a part's elements lie. Valid as long as the source lives.
  struct Stored {
    QuantType type = QuantType::kF32;
    size_t file = 0;   // the source's own numbers
    size_t index = 0;  // of the tensor in the file
    /// As in SourcePart; 0 where rows lie in our order.
    int64_t interleaved_heads = 0;
  };

  virtual ~ModelSource() = default;
  virtual const Architecture& architecture() const = 0;
  /// The model's shape; dtype is that of the source, bfloat16 if it is quantised.
  virtual const ModelConfig& config() const = 0;
  virtual const std::vector<CompanionFile>& companion_files() const = 0;
  /// Finds a part and checks its shape. Error{kNotFound}, {kCorrupt} or {kUnsupported} naming it.
  virtual Stored find(const SourcePart& part) const = 0;
  /// Fills `out` with stored bytes, from `byte_offset` in the tensor's data.
  virtual void read(const Stored& stored, uint64_t byte_offset, std::span<std::byte> out) const = 0;
  /// Names of all tensors.
  virtual std::vector<std::string> tensor_names() const = 0;
  /// A part's name in this kind of source.
  virtual const std::string& name_of(const SourcePart& part) const = 0;
};

/// Opens a Hugging Face folder, or a GGUF file; warns of what is odd about it. Error{kNotFound} for
/// a path that is neither.
std::unique_ptr<ModelSource> open_model_source(FileSystem& fs, Log& log, const std::string& path);

/// A folder with config.json and safetensors: one file, or an index and shards. Where config.json
/// ties the embeddings but the files hold a head of its own with other values, the head counts, as
/// in transformers 5.
std::unique_ptr<ModelSource> open_hugging_face_source(FileSystem& fs, Log& log,
                                                      const std::string& directory);

/// A GGUF file.
std::unique_ptr<ModelSource> open_gguf_source(FileSystem& fs, const std::string& path);

}  // namespace headrace
