#include "checkpoint/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <set>

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace headrace {
namespace {

using nlohmann::json;

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kHeaderLimit = uint64_t{100} << 20;  // as the format's reference reader has it
constexpr size_t kShapeLimit = 8;
constexpr size_t kHeaderAlignment = 8;
constexpr uint64_t kLargestElements = uint64_t{1} << 48;
constexpr std::string_view kMetadataKey = "__metadata__";

struct ElementType {
  std::string_view text;
  uint64_t size_bytes;
};
constexpr std::array kElementTypes = {
    ElementType{"F64", 8}, ElementType{"F32", 4},     ElementType{"F16", 2},
    ElementType{"BF16", 2}, ElementType{"I64", 8},    ElementType{"I32", 4},
    ElementType{"I16", 2}, ElementType{"I8", 1},      ElementType{"U64", 8},
    ElementType{"U32", 4}, ElementType{"U16", 2},     ElementType{"U8", 1},
    ElementType{"BOOL", 1}, ElementType{"F8_E4M3", 1}, ElementType{"F8_E5M2", 1},
};

[[noreturn]] void corrupt(const std::string& path, const std::string& what) {
  fail(ErrorCode::kCorrupt, "[safetensors] {}: {}", path, what);
}

uint64_t element_bytes(const std::string& path, const TensorEntry& entry) {
  const auto* found =
      std::find_if(kElementTypes.begin(), kElementTypes.end(),
                   [&](const ElementType& type) { return type.text == entry.dtype_text; });
  if (found == kElementTypes.end()) {
    corrupt(path, fmt::format("tensor '{}' has the unknown type '{}'", entry.name, entry.dtype_text));
  }
  return found->size_bytes;
}

/// Parses the header, refusing a tensor that is named twice (the JSON library would keep the last).
json parse_header(const std::string& path, const std::string& text) {
  std::set<std::string> names;
  std::string twice;
  const json::parser_callback_t watch = [&](int depth, json::parse_event_t event, json& value) {
    if (event == json::parse_event_t::key && depth == 1 &&
        !names.insert(value.get<std::string>()).second) {
      twice = value.get<std::string>();
    }
    return true;
  };
  json header = json::parse(text, watch, false);
  if (!header.is_object()) corrupt(path, "the header is not a JSON object");
  if (!twice.empty()) corrupt(path, fmt::format("tensor '{}' is named twice", twice));
  return header;
}

uint64_t unsigned_at(const std::string& path, const std::string& name, const json& value) {
  if (!value.is_number_unsigned()) {
    corrupt(path, fmt::format("tensor '{}' has a size or offset that is not a whole number", name));
  }
  return value.get<uint64_t>();
}

/// Reads one header entry; `data_begin` is where tensor bytes start in the file.
TensorEntry parse_entry(const std::string& path, const std::string& name, const json& value,
                        uint64_t data_begin, uint64_t file_bytes) {
  if (!value.is_object() || !value.contains("dtype") || !value["dtype"].is_string() ||
      !value.contains("shape") || !value["shape"].is_array() || !value.contains("data_offsets") ||
      !value["data_offsets"].is_array() || value["data_offsets"].size() != 2) {
    corrupt(path, fmt::format("tensor '{}' lacks dtype, shape or data_offsets", name));
  }
  TensorEntry entry;
  entry.name = name;
  entry.dtype_text = value["dtype"].get<std::string>();
  if (value["shape"].size() > kShapeLimit) {
    corrupt(path, fmt::format("tensor '{}' has more than {} dimensions", name, kShapeLimit));
  }
  uint64_t elements = 1;
  for (const json& size : value["shape"]) {
    const uint64_t count = unsigned_at(path, name, size);
    if (count != 0 && elements > kLargestElements / count) {
      corrupt(path, fmt::format("tensor '{}' has more elements than any tensor", name));
    }
    elements *= count;
    entry.shape.push_back(static_cast<int64_t>(count));
  }
  const uint64_t begin = unsigned_at(path, name, value["data_offsets"][0]);
  const uint64_t end = unsigned_at(path, name, value["data_offsets"][1]);
  if (begin > end || end > file_bytes - data_begin) {
    corrupt(path, fmt::format("tensor '{}' occupies bytes {} to {} of {}: is the file truncated?", name,
                              begin, end, file_bytes - data_begin));
  }
  if (end - begin != elements * element_bytes(path, entry)) {
    corrupt(path, fmt::format("tensor '{}' of {} {} elements occupies {} bytes", name, elements,
                              entry.dtype_text, end - begin));
  }
  entry.offset = data_begin + begin;
  entry.size_bytes = end - begin;
  return entry;
}

void check_overlaps(const std::string& path, const std::vector<TensorEntry>& sorted) {
  for (size_t i = 1; i < sorted.size(); ++i) {
    if (sorted[i].offset < sorted[i - 1].offset + sorted[i - 1].size_bytes) {
      corrupt(path, fmt::format("tensors '{}' and '{}' share bytes", sorted[i - 1].name,
                                sorted[i].name));
    }
  }
}

std::string_view dtype_text(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return "F32";
    case DType::kFloat16:
      return "F16";
    case DType::kBFloat16:
      return "BF16";
  }
  HR_CHECK(false);
}

}  // namespace

std::optional<DType> TensorEntry::dtype() const {
  if (dtype_text == "F32") return DType::kFloat32;
  if (dtype_text == "F16") return DType::kFloat16;
  if (dtype_text == "BF16") return DType::kBFloat16;
  return std::nullopt;
}

int64_t TensorEntry::elements() const {
  int64_t product = 1;
  for (const int64_t size : shape) product *= size;
  return product;
}

SafetensorsReader SafetensorsReader::open(FileSystem& fs, const std::string& path) {
  SafetensorsReader reader;
  reader.file_ = fs.open(path);
  const uint64_t file_bytes = reader.file_->size();
  if (file_bytes < kLengthBytes) corrupt(path, "it is too short to be a safetensors file");
  uint64_t length = 0;
  static_assert(std::endian::native == std::endian::little);
  reader.file_->read(0, std::as_writable_bytes(std::span(&length, 1)));
  if (length > kHeaderLimit || length > file_bytes - kLengthBytes) {
    corrupt(path, fmt::format("the header claims {} bytes, the file has {}", length, file_bytes));
  }
  std::string text(length, '\0');
  reader.file_->read(kLengthBytes, std::as_writable_bytes(std::span(text)));
  const json header = parse_header(path, text);
  for (const auto& [name, value] : header.items()) {
    if (name == kMetadataKey) continue;
    reader.entries_.push_back(
        parse_entry(path, name, value, kLengthBytes + length, file_bytes));
  }
  std::sort(reader.entries_.begin(), reader.entries_.end(),
            [](const TensorEntry& a, const TensorEntry& b) {
              return std::pair(a.offset, a.size_bytes) < std::pair(b.offset, b.size_bytes);
            });
  check_overlaps(path, reader.entries_);
  for (size_t i = 0; i < reader.entries_.size(); ++i) {
    reader.by_name_.emplace(reader.entries_[i].name, i);
  }
  return reader;
}

const TensorEntry* SafetensorsReader::find(std::string_view name) const {
  const auto found = by_name_.find(std::string(name));
  return found == by_name_.end() ? nullptr : &entries_[found->second];
}

void SafetensorsReader::read(const TensorEntry& entry, uint64_t byte_offset,
                             std::span<std::byte> out) const {
  HR_CHECK(byte_offset <= entry.size_bytes && out.size() <= entry.size_bytes - byte_offset);
  file_->read(entry.offset + byte_offset, out);
}

SafetensorsWriter::SafetensorsWriter(WritableFile& file, const std::vector<Tensor>& tensors)
    : file_(file) {
  json header = json::object();
  uint64_t offset = 0;
  for (const Tensor& tensor : tensors) {
    uint64_t size = dtype_size(tensor.dtype);
    for (const int64_t count : tensor.shape) size *= static_cast<uint64_t>(count);
    HR_CHECK(!header.contains(tensor.name));
    header[tensor.name] = {{"dtype", dtype_text(tensor.dtype)},
                           {"shape", tensor.shape},
                           {"data_offsets", {offset, offset + size}}};
    offset += size;
  }
  std::string text = header.dump();
  text.append((kHeaderAlignment - text.size() % kHeaderAlignment) % kHeaderAlignment, ' ');
  const uint64_t length = text.size();
  file_.append(std::as_bytes(std::span(&length, 1)));
  append_text(file_, text);
  expected_bytes_ = file_.size() + offset;
}

void SafetensorsWriter::finish() {
  HR_CHECK(file_.size() == expected_bytes_);
  file_.sync();
}

}  // namespace headrace
