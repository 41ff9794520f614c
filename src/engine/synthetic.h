#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/file.h"
#include "checkpoint/model_config.h"
#include "engine/build_config.h"
#include "engine/manifest.h"

namespace headrace {

/// An engine without a folder: a model's shape, whose weights are made up as they are read.
struct SyntheticSpec {
  std::string name;   // in errors and reports: "llama_7b"
  ModelConfig model;  // valid
  BuildConfig build;  // settled by resolve_build_config()
  uint64_t seed = 0;  // of the weights
};

/// A weight file that takes no space: every byte is a pure function of seed and offset, made when
/// it is read, at several GB/s a thread. Matrices and embedding rows are of both signs and 2^-7 to
/// 2^-5 in size (0.018 on average, standard deviation 0.019), norms 1 to 1 + 2^-4; embedding rows
/// carry their checksums. Coded tiles hold other weights (synthetic_code.h). Header and manifest
/// are not part of it: their bytes are 0. Immutable and thread-safe; copies share what they know.
class SyntheticFile : public RandomAccessFile {
 public:
  /// Takes what lay_out_manifest() returned for `spec`'s model and options.
  SyntheticFile(const SyntheticSpec& spec, Manifest manifest);

  const std::string& path() const override { return path_; }
  uint64_t size() const override { return manifest_->file_bytes; }
  void read(uint64_t offset, std::span<std::byte> out) const override;
  void will_need(uint64_t, uint64_t) const override {}

 private:
  size_t read_piece(uint64_t offset, std::span<std::byte> out) const;
  size_t read_tile(const TileInfo& tile, uint64_t offset, std::span<std::byte> out) const;
  void read_coded_rows(const TileInfo& tile, uint64_t begin, std::span<std::byte> out) const;
  size_t read_embedding(uint64_t offset, std::span<std::byte> out) const;
  void make_embedding_row(uint64_t offset, std::span<std::byte> out) const;
  size_t read_vector(const VectorInfo& vector, uint64_t offset, std::span<std::byte> out) const;

  std::string path_;
  uint64_t seed_ = 0;
  std::shared_ptr<const Manifest> manifest_;  // shared by copies: large, and immutable
};

}  // namespace headrace
