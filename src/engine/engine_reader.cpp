#include "engine/engine_reader.h"

#include <array>
#include <bit>

#include <nlohmann/json.hpp>
#include <xxhash.h>

#include "base/error.h"
#include "base/version.h"
#include "engine/format.h"
#include "engine/little_endian.h"
#include "engine/manifest_check.h"
#include "engine/manifest_codec.h"
#include "engine/manifest_layout.h"
#include "engine/synthetic_code.h"

namespace headrace {
namespace {

constexpr uint64_t kConfigLimitBytes = uint64_t{16} << 20;

/// The object that config.json holds under `key`, as text.
std::string section_text(const nlohmann::json& config, const char* key, const std::string& path) {
  const auto found = config.find(key);
  if (found == config.end() || !found->is_object()) {
    fail(ErrorCode::kCorrupt, "[engine] {} has no object '{}': build the engine again", path, key);
  }
  return found->dump();
}

nlohmann::json read_config(FileSystem& fs, const std::string& path) {
  const std::string text = read_text_file(fs, path, kConfigLimitBytes);
  nlohmann::json config = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (config.is_object()) return config;
  fail(ErrorCode::kCorrupt, "[engine] {} is not a JSON object: build the engine again", path);
}

Manifest read_manifest(const RandomAccessFile& file) {
  std::array<std::byte, FileHeader::kBytes> bytes;
  if (file.size() < bytes.size()) {
    fail(ErrorCode::kCorrupt, "[engine] {} holds {} bytes, too few for an engine: truncated?",
         file.path(), file.size());
  }
  file.read(0, bytes);
  const FileHeader header = parse_header(bytes, file.size(), file.path());
  std::vector<std::byte> manifest(header.manifest_bytes);
  file.read(header.manifest_offset, manifest);
  return parse_manifest(manifest, header, file.path());
}

}  // namespace

Engine Engine::open(FileSystem& fs, const std::string& directory) {
  const std::string config_path = join_path(directory, "config.json");
  const std::string weights_path = join_path(directory, "rank0.engine");
  for (const std::string& path : {config_path, weights_path}) {
    if (!fs.exists(path)) {
      fail(ErrorCode::kNotFound,
           "[engine] File does not exist: {}: give the folder that 'headrace build' wrote", path);
    }
  }
  Engine engine;
  engine.directory_ = directory;
  const nlohmann::json config = read_config(fs, config_path);
  if (const auto version = config.find("version");
      version != config.end() && version->is_string()) {
    engine.version_ = version->get<std::string>();
  }
  engine.model_ =
      parse_model_config(section_text(config, "pretrained_config", config_path), config_path);
  engine.build_ =
      parse_build_config(section_text(config, "build_config", config_path), config_path);
  if (engine.build_.max_seq_len == 0) {
    fail(ErrorCode::kCorrupt, "[engine] {}: build_config has no 'max_seq_len'", config_path);
  }
  engine.file_ = fs.open(weights_path);
  engine.manifest_ = read_manifest(*engine.file_);
  validate_manifest(engine.manifest_, engine.model_, weights_path);
  return engine;
}

Engine Engine::synthetic(const SyntheticSpec& spec) {
  HR_CHECK(spec.build.max_seq_len > 0);
  Engine engine;
  engine.version_ = headrace::version();
  engine.model_ = spec.model;
  engine.build_ = spec.build;
  const std::vector<CodecId> codecs = allowed_codecs(spec.build.tile_codec, spec.model.dtype);
  engine.manifest_ =
      lay_out_manifest(spec.model, spec.build.tile_bytes, [&](const TensorSpec& matrix) {
        return synthetic_coding(matrix, spec.model.dtype, codecs,
                                rows_per_tile(matrix.k, spec.model.dtype, spec.build.tile_bytes));
      });
  auto file = std::make_unique<SyntheticFile>(spec, engine.manifest_);
  std::vector<std::byte> bytes;
  for (VectorInfo& vector : engine.manifest_.vectors) {
    bytes.resize(static_cast<size_t>(vector.count) * sizeof(float));
    file->read(vector.offset, bytes);
    vector.xxh3 = XXH3_64bits(bytes.data(), bytes.size());
  }
  engine.synthetic_ = file.get();
  engine.file_ = std::move(file);
  return engine;
}

std::unique_ptr<RandomAccessFile> Engine::open_weights(FileSystem& fs) const {
  if (synthetic_ != nullptr) return std::make_unique<SyntheticFile>(*synthetic_);
  return fs.open(weights_path());
}

std::vector<float> Engine::read_vector(const VectorInfo& vector) const {
  std::vector<std::byte> bytes(static_cast<size_t>(vector.count) * sizeof(float));
  file_->read(vector.offset, bytes);
  if (XXH3_64bits(bytes.data(), bytes.size()) != vector.xxh3) {
    fail(ErrorCode::kCorrupt,
         "[engine] {}: layer {} {} does not match its checksum: build the engine again",
         weights_path(), vector.layer, role_name(vector.role));
  }
  std::vector<float> values(static_cast<size_t>(vector.count));
  LittleEndianReader in(bytes);
  for (float& value : values) value = std::bit_cast<float>(in.take<uint32_t>());
  return values;
}

std::string tile_name(const Manifest& manifest, uint32_t tile) {
  const TileInfo& info = manifest.tiles.at(tile);
  const MatrixInfo& matrix = manifest.matrices[info.matrix];
  const std::string place = matrix.layer < 0 ? "" : fmt::format("layer {} ", matrix.layer);
  return fmt::format("tile {} ({}{}, rows {} to {})", tile, place, role_name(matrix.role),
                     info.row_begin, info.row_begin + info.rows - 1);
}

}  // namespace headrace
