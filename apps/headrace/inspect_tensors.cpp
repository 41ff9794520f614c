#include <algorithm>
#include <type_traits>

#include <fmt/ranges.h>

#include "base/error.h"
#include "base/file.h"
#include "base/format.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/gguf.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/text_check.h"
#include "headrace/inspect_report.h"

namespace headrace::app {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kLongestValue = 100;
constexpr size_t kShownElements = 8;

/// Collects a list of tensors in both forms.
class TensorList {
 public:
  void add(const std::string& name, const std::string& type, const std::vector<int64_t>& shape,
           uint64_t offset, uint64_t size_bytes) {
    json_.push_back({{"name", name},
                     {"type", type},
                     {"shape", shape},
                     {"offset", offset},
                     {"bytes", size_bytes}});
    text_ += fmt::format("{:<56} {:>6} {:>20} {:>10}\n", printable(name), printable(type),
                         fmt::format("[{}]", fmt::join(shape, ", ")), format_bytes(size_bytes));
    total_bytes_ += size_bytes;
  }
  void add(const SafetensorsReader& reader) {
    for (const TensorEntry& entry : reader.entries()) {
      add(entry.name, entry.stored_type, entry.shape, entry.offset, entry.size_bytes);
    }
  }
  /// Puts the list behind what the report says already.
  void finish(InspectReport& report) {
    report.text += fmt::format("tensors     {}, {} ({} bytes)\n\n", json_.size(),
                               format_bytes(total_bytes_), total_bytes_);
    report.text += text_;
    report.json["tensor_bytes"] = total_bytes_;
    report.json["tensors"] = std::move(json_);
  }

 private:
  Json json_ = Json::array();
  std::string text_;
  uint64_t total_bytes_ = 0;
};

InspectReport begin_report(const char* kind, const std::string& path) {
  InspectReport report;
  report.json["kind"] = kind;
  report.json["path"] = path;
  report.text = fmt::format("{:<11} {}\n", kind, path);
  return report;
}

std::string shortened(const std::string& text) {
  return text.size() <= kLongestValue ? text : text.substr(0, kLongestValue) + "...";
}

Json metadata_json(const GgufValue& value) {
  return std::visit(
      [](const auto& held) -> Json {
        using Held = std::remove_cvref_t<decltype(held)>;
        if constexpr (std::is_arithmetic_v<Held> || std::is_same_v<Held, std::string>) {
          return held;
        } else {
          Json array = {{"count", held.size()}, {"first", Json::array()}};
          for (size_t i = 0; i < std::min(held.size(), kShownElements); ++i) {
            array["first"].push_back(static_cast<typename Held::value_type>(held[i]));
          }
          return array;
        }
      },
      value);
}

}  // namespace

std::string describe_model(const Json& config) {
  const auto number = [&](const char* key) { return config.at(key).get<int64_t>(); };
  return fmt::format(
      "{}, {}, {} layers, hidden {}, {} heads of {} ({} for K and V), intermediate {}, "
      "vocabulary {}, positions {}",
      printable(config.at("architecture").get<std::string>()),
      config.at("dtype").get<std::string>(), number("num_hidden_layers"), number("hidden_size"),
      number("num_attention_heads"), number("head_size"), number("num_key_value_heads"),
      number("intermediate_size"), number("vocab_size"), number("max_position_embeddings"));
}

InspectReport inspect_checkpoint(const std::string& directory, Context& context) {
  const Checkpoint checkpoint = Checkpoint::open(context.fs, directory);
  InspectReport report = begin_report("checkpoint", directory);
  report.json["pretrained_config"] = Json::parse(model_config_to_json(checkpoint.config()));
  report.json["companion_files"] = checkpoint.companion_files();
  report.text += fmt::format("model       {}\n", describe_model(report.json["pretrained_config"]));
  if (!checkpoint.companion_files().empty()) {
    report.text += fmt::format("with it     {}\n", fmt::join(checkpoint.companion_files(), ", "));
  }
  TensorList tensors;
  tensors.add(checkpoint.tensors());
  tensors.finish(report);
  return report;
}

InspectReport inspect_safetensors(const std::string& path, Context& context) {
  InspectReport report = begin_report("safetensors", path);
  TensorList tensors;
  if (!context.fs.is_directory(path)) {
    tensors.add(SafetensorsReader::open(context.fs, path));
    tensors.finish(report);
    return report;
  }
  Json files = Json::array();
  for (const std::string& name : context.fs.list(path)) {
    if (!name.ends_with(".safetensors")) continue;
    tensors.add(SafetensorsReader::open(context.fs, join_path(path, name)));
    files.push_back(name);
  }
  if (files.empty()) {
    fail(ErrorCode::kNotFound,
         "[inspect] {} holds no engine, checkpoint or safetensors file: give the file or folder of "
         "a model",
         path);
  }
  report.text += fmt::format("files       {}\n", files.size());
  report.json["files"] = std::move(files);
  tensors.finish(report);
  return report;
}

InspectReport inspect_gguf(const std::string& path, Context& context) {
  const GgufFile file = GgufFile::open(context.fs, path);
  InspectReport report = begin_report("gguf", path);
  report.text += fmt::format("file        {} ({} bytes)\n", format_bytes(file.file_bytes()),
                             file.file_bytes());
  report.json["file_bytes"] = file.file_bytes();
  Json metadata = Json::object();
  for (const auto& [key, value] : file.metadata()) {
    metadata[key] = metadata_json(value);
    const auto replace = Json::error_handler_t::replace;
    report.text += fmt::format("  {} = {}\n", printable(key),
                               printable(shortened(metadata[key].dump(-1, ' ', true, replace))));
  }
  report.json["metadata"] = std::move(metadata);
  TensorList tensors;
  for (const GgufTensor& tensor : file.tensors()) {
    tensors.add(tensor.name, quant_type_name(static_cast<uint32_t>(tensor.type)), tensor.shape,
                tensor.offset, tensor.size_bytes);
  }
  tensors.finish(report);
  return report;
}

}  // namespace headrace::app
