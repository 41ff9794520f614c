#include <map>

#include <fmt/format.h>

#include "base/format.h"
#include "checkpoint/text_check.h"
#include "engine/engine_reader.h"
#include "engine/verify.h"
#include "headrace/inspect_report.h"

namespace headrace::app {
namespace {

using Json = nlohmann::ordered_json;

/// Sums over an engine's parts.
struct Sizes {
  uint64_t streamable = 0;
  uint64_t payload = 0;  // streamable as it is coded
  uint64_t stored = 0;   // tiles as they lie in the file, row padding included
  uint64_t vectors = 0;
  uint64_t embedding = 0;
  std::map<std::string, uint64_t> tiles_by_codec;
};

Sizes measure(const Engine& engine) {
  const Manifest& manifest = engine.manifest();
  Sizes sizes;
  sizes.streamable = manifest.streamable_bytes();
  sizes.payload = manifest.payload_bytes();
  for (const TileInfo& tile : manifest.tiles) {
    sizes.stored += tile.stored_bytes;
    ++sizes.tiles_by_codec[codec_name(tile.codec)];
  }
  for (const VectorInfo& vector : manifest.vectors) {
    sizes.vectors += static_cast<uint64_t>(vector.count) * sizeof(float);
  }
  sizes.embedding =
      static_cast<uint64_t>(engine.model().vocab_size) * manifest.embedding.row_stride_bytes;
  return sizes;
}

uint64_t payload_bytes(const Manifest& manifest, const MatrixInfo& matrix) {
  uint64_t bytes = 0;
  for (uint32_t t = 0; t < matrix.tile_count; ++t) {
    bytes += manifest.tiles[matrix.first_tile + t].payload_bytes();
  }
  return bytes;
}

Json matrices_json(const Manifest& manifest) {
  Json list = Json::array();
  for (const MatrixInfo& matrix : manifest.matrices) {
    list.push_back({{"layer", matrix.layer},
                    {"role", role_name(matrix.role)},
                    {"rows", matrix.rows},
                    {"k", matrix.k},
                    {"dtype", dtype_name(matrix.dtype)},
                    {"payload_bytes", payload_bytes(manifest, matrix)},
                    {"first_tile", matrix.first_tile},
                    {"tiles", matrix.tile_count}});
  }
  return list;
}

Json tiles_json(const Manifest& manifest) {
  Json list = Json::array();
  for (const TileInfo& tile : manifest.tiles) {
    list.push_back({{"matrix", tile.matrix},
                    {"row_begin", tile.row_begin},
                    {"rows", tile.rows},
                    {"codec", codec_name(tile.codec)},
                    {"row_stride_bytes", tile.row_stride_bytes},
                    {"raw_bytes", tile.raw_bytes},
                    {"stored_bytes", tile.stored_bytes},
                    {"offset", tile.offset},
                    {"xxh3", fmt::format("{:016x}", tile.xxh3)}});
  }
  return list;
}

Json vectors_json(const Manifest& manifest) {
  Json list = Json::array();
  for (const VectorInfo& vector : manifest.vectors) {
    list.push_back({{"layer", vector.layer},
                    {"role", role_name(vector.role)},
                    {"count", vector.count},
                    {"offset", vector.offset},
                    {"xxh3", fmt::format("{:016x}", vector.xxh3)}});
  }
  return list;
}

Json engine_json(const Engine& engine, const Sizes& sizes) {
  const Manifest& manifest = engine.manifest();
  Json json;
  json["kind"] = "engine";
  json["path"] = engine.directory();
  json["version"] = engine.version();
  json["pretrained_config"] = Json::parse(model_config_to_json(engine.model()));
  json["build_config"] = Json::parse(build_config_to_json(engine.build()));
  json["streamable_bytes"] = sizes.streamable;
  json["payload_bytes"] = sizes.payload;
  json["stored_bytes"] = sizes.stored;
  json["vector_bytes"] = sizes.vectors;
  json["file_bytes"] = manifest.file_bytes;
  json["tile_bytes"] = manifest.tile_bytes;
  json["codecs"] = sizes.tiles_by_codec;
  json["embedding"] = {{"tied", manifest.embedding.tied},
                       {"offset", manifest.embedding.offset},
                       {"row_stride_bytes", manifest.embedding.row_stride_bytes},
                       {"bytes", sizes.embedding}};
  json["matrices"] = matrices_json(manifest);
  json["tiles"] = tiles_json(manifest);
  json["vectors"] = vectors_json(manifest);
  return json;
}

/// One line for each kind of matrix; a model's layers are alike.
std::string matrices_text(const Manifest& manifest) {
  std::string text = fmt::format("{:<10} {:>5} {:>16} {:>7} {:>10} {:>12} {:>12}\n", "matrix",
                                 "count", "shape", "tiles", "tile rows", "bytes", "coded");
  for (uint16_t number = 0; number <= static_cast<uint16_t>(Role::kLmHead); ++number) {
    const auto role = static_cast<Role>(number);
    const MatrixInfo* example = nullptr;
    int64_t count = 0;
    uint64_t tiles = 0;
    uint64_t payload = 0;
    for (const MatrixInfo& matrix : manifest.matrices) {
      if (matrix.role != role) continue;
      if (example == nullptr) example = &matrix;
      ++count;
      tiles += matrix.tile_count;
      payload += payload_bytes(manifest, matrix);
    }
    if (example == nullptr) continue;
    const uint64_t bytes =
        static_cast<uint64_t>(count * example->rows * example->k) * dtype_size(example->dtype);
    text += fmt::format("{:<10} {:>5} {:>16} {:>7} {:>10} {:>12} {:>12}\n", role_name(role), count,
                        fmt::format("[{}, {}]", example->rows, example->k), tiles,
                        manifest.tiles[example->first_tile].rows, format_bytes(bytes),
                        payload == bytes ? "-" : format_bytes(payload));
  }
  return text;
}

std::string build_line(const BuildConfig& build) {
  return fmt::format(
      "weight streaming {}, batch {}, input {}, sequence {}, tokens {}, beams {}, "
      "canonical rows {}",
      build.weight_streaming ? "on" : "off", build.max_batch_size, build.max_input_len,
      build.max_seq_len, build.max_num_tokens, build.max_beam_width,
      build.canonical_rows == 0 ? "all" : std::to_string(build.canonical_rows));
}

std::string engine_text(const Engine& engine, const Sizes& sizes, const Json& json) {
  const Manifest& manifest = engine.manifest();
  std::string codecs;
  for (const auto& [name, tiles] : sizes.tiles_by_codec) {
    codecs += fmt::format("{}{} {}", codecs.empty() ? "" : ", ", tiles, name);
  }
  std::string text = fmt::format("engine      {} (built by {})\n", engine.directory(),
                                 printable(engine.version()));
  text += fmt::format("model       {}\n", describe_model(json.at("pretrained_config")));
  text += fmt::format("build       {}\n", build_line(engine.build()));
  text += fmt::format("streamable  {} ({} bytes) in {} tiles near {} (codecs: {})\n",
                      format_bytes(sizes.streamable), sizes.streamable, manifest.tiles.size(),
                      format_bytes(manifest.tile_bytes), codecs);
  text +=
      fmt::format("payload     {} ({:.3f} of it): what a pass moves\n", format_bytes(sizes.payload),
                  static_cast<double>(sizes.payload) / static_cast<double>(sizes.streamable));
  text += fmt::format("padding     {} between rows\n", format_bytes(sizes.stored - sizes.payload));
  text += fmt::format("vectors     {} norms and biases, {}\n", manifest.vectors.size(),
                      format_bytes(sizes.vectors));
  text += manifest.embedding.tied
              ? std::string("embedding   tied to lm_head\n")
              : fmt::format("embedding   {} of its own\n", format_bytes(sizes.embedding));
  text += fmt::format("file        {} ({} bytes)\n\n", format_bytes(manifest.file_bytes),
                      manifest.file_bytes);
  return text + matrices_text(manifest);
}

}  // namespace

InspectReport inspect_engine(const std::string& directory, bool verify, Context& context) {
  const Engine engine = Engine::open(context.fs, directory);
  const Sizes sizes = measure(engine);
  InspectReport report;
  report.json = engine_json(engine, sizes);
  report.text = engine_text(engine, sizes, report.json);
  if (!verify) return report;
  report.damaged = verify_engine(engine, context);
  report.json["damaged"] = report.damaged;
  report.text += '\n';
  for (const std::string& name : report.damaged) report.text += fmt::format("DAMAGED: {}\n", name);
  if (report.damaged.empty()) report.text += "every checksum matches\n";
  return report;
}

}  // namespace headrace::app
