#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/file.h"
#include "checkpoint/model_config.h"
#include "engine/build_config.h"
#include "engine/manifest.h"
#include "engine/synthetic.h"

namespace headrace {

/// An engine folder, opened: its configuration and manifest are in memory and have been checked
/// against each other and the file's size, so that users of the manifest can trust every number in
/// it. Weights stay in the file. A synthetic engine has no folder, and a file that makes its bytes
/// up. Immutable and thread-safe; movable.
class Engine {
 public:
  /// Reads `directory`/config.json and the manifest of `directory`/rank0.engine. `fs` must outlive
  /// the engine. Error{kNotFound} or {kIo} for missing files, {kCorrupt} for contents that
  /// contradict themselves, {kUnsupported} for a format version that is not known here.
  static Engine open(FileSystem& fs, const std::string& directory);

  /// An engine that is laid out as the builder would, of made-up weights. Its tiles have no
  /// checksums, since those would take a pass over all weights. REQUIRES: a valid spec.
  static Engine synthetic(const SyntheticSpec& spec);

  const ModelConfig& model() const { return model_; }
  const BuildConfig& build() const { return build_; }
  const Manifest& manifest() const { return manifest_; }
  const std::string& directory() const { return directory_; }
  /// Path of the file that holds the tiles.
  const std::string& weights_path() const { return file_->path(); }
  const RandomAccessFile& file() const { return *file_; }
  /// Another handle on that file, which takes advice on how it is read without changing this one.
  std::unique_ptr<RandomAccessFile> open_weights(FileSystem& fs) const;
  bool is_synthetic() const { return synthetic_ != nullptr; }
  /// The version of the program that built it.
  const std::string& version() const { return version_; }

  /// Values of a norm or bias. Error{kCorrupt} if they do not match their checksum.
  std::vector<float> read_vector(const VectorInfo& vector) const;

 private:
  Engine() = default;

  std::string directory_;
  std::string version_;
  ModelConfig model_;
  BuildConfig build_;
  Manifest manifest_;
  std::unique_ptr<RandomAccessFile> file_;
  const SyntheticFile* synthetic_ = nullptr;  // file_, if it is one
};

/// "tile 17 (layer 3 qkv, rows 64 to 127)": names a tile in errors and reports.
std::string tile_name(const Manifest& manifest, uint32_t tile);

}  // namespace headrace
