#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/file.h"
#include "checkpoint/model_config.h"
#include "checkpoint/safetensors.h"

namespace headrace {

/// Name of the file that holds a checkpoint's tensors.
inline constexpr std::string_view kCheckpointWeightsFile = "rank0.safetensors";

/// Whether a file of a model folder travels with the model from checkpoint to engine: tokenizer,
/// chat template, generation defaults.
bool is_companion_file(std::string_view name);

/// Error{kInvalidArgument} if a folder holds a model, or the file `other`, that needs the
/// config.json which is to be written there.
void check_output_folder(FileSystem& fs, const std::string& directory, std::string_view place,
                         std::string_view other);

/// A checkpoint folder, open: its configuration and its tensors, which have been checked against
/// each other: every tensor of the model is there with its shape and type, and nothing else.
/// Immutable and thread-safe; movable.
class Checkpoint {
 public:
  /// Error{kNotFound} for a missing file or tensor, {kCorrupt} for contents that contradict each
  /// other. `fs` is needed during the call only.
  static Checkpoint open(FileSystem& fs, const std::string& directory);

  const ModelConfig& config() const { return config_; }
  const SafetensorsReader& tensors() const { return tensors_; }
  const std::string& directory() const { return directory_; }
  /// Names of the files in the folder that travel with the model, sorted.
  const std::vector<std::string>& companion_files() const { return companion_files_; }

 private:
  Checkpoint(std::string directory, ModelConfig config, SafetensorsReader tensors,
             std::vector<std::string> companion_files)
      : directory_(std::move(directory)),
        config_(std::move(config)),
        tensors_(std::move(tensors)),
        companion_files_(std::move(companion_files)) {}

  std::string directory_;
  ModelConfig config_;
  SafetensorsReader tensors_;
  std::vector<std::string> companion_files_;
};

}  // namespace headrace
