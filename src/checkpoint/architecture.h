#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/model_config.h"
#include "checkpoint/tensor_layout.h"

namespace headrace {

class GgufFile;
class JsonFields;

/// A tensor of a source model that becomes some rows of a checkpoint's tensor.
struct SourcePart {
  std::string hugging_face_name;
  std::string gguf_name;
  std::vector<int64_t> shape;
  /// Above 0: GGUF stores the rows of each of this many heads with the two halves interleaved, in
  /// the order 0, h/2, 1, h/2 + 1, ... of our rows.
  int64_t interleaved_heads = 0;
};

/// What is particular to a family of models. Adding one: a file under architectures/ and a line in
/// architecture.cpp.
struct Architecture {
  std::string_view name;        // in config.json, as in Hugging Face's "architectures"
  std::string_view model_type;  // Hugging Face's "model_type"
  std::string_view gguf_name;   // GGUF's "general.architecture"
  /// Reads Hugging Face's config.json, all but the element type. Values that cannot be honoured are
  /// Error{kUnsupported} naming key and value.
  ModelConfig (*read_hugging_face)(const JsonFields& fields);
  /// Reads GGUF metadata, all but the element type.
  ModelConfig (*read_gguf)(const GgufFile& file);
  /// What a tensor of the checkpoint is made of, one part behind the other.
  std::vector<SourcePart> (*parts)(const ModelConfig& config, const CheckpointTensor& tensor);
  /// Whether a tensor of a source model that is part of nothing may be left out.
  bool (*may_ignore)(std::string_view source_name);
};

/// All families. The first is the default.
const std::vector<const Architecture*>& architectures();

/// By `name`. Error{kUnsupported} naming `where` and those that are known.
const Architecture& find_architecture(std::string_view name, std::string_view where);

extern const Architecture kLlamaArchitecture;

}  // namespace headrace
