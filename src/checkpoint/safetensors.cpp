#include "checkpoint/safetensors.h"

#include <array>
#include <cstring>
#include <utility>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "checkpoint/safetensors_header.h"

namespace headrace {
namespace {

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kLargestHeader = 100'000'000;  // the format's own limit
constexpr uint64_t kDataAlignment = 64;

std::string_view type_name(DType dtype) {
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

uint64_t TensorSpec::elements() const {
  uint64_t count = 1;
  for (const int64_t size : shape) count *= static_cast<uint64_t>(size);
  return count;
}

SafetensorsReader SafetensorsReader::open(FileSystem& fs, const std::string& path) {
  SafetensorsReader reader(fs.open(path));
  const uint64_t file_bytes = reader.file_bytes();
  if (file_bytes < kLengthBytes) {
    fail(ErrorCode::kCorrupt, "[safetensors] {}: {} bytes are no safetensors file", path,
         file_bytes);
  }
  uint64_t header_bytes = 0;  // little endian, as every machine we run on
  reader.file_->read(0, std::as_writable_bytes(std::span(&header_bytes, 1)));
  if (header_bytes > file_bytes - kLengthBytes || header_bytes > kLargestHeader) {
    fail(ErrorCode::kCorrupt,
         "[safetensors] {}: a header of {} bytes in a file of {}: it is truncated, or no "
         "safetensors file",
         path, header_bytes, file_bytes);
  }
  std::string header(header_bytes, '\0');
  reader.file_->read(kLengthBytes, std::as_writable_bytes(std::span(header)));
  reader.entries_ = parse_safetensors_header(header, kLengthBytes + header_bytes, file_bytes, path);
  for (size_t i = 0; i < reader.entries_.size(); ++i) {
    reader.index_.emplace(reader.entries_[i].name, i);
  }
  return reader;
}

const TensorEntry* SafetensorsReader::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &entries_[found->second];
}

void SafetensorsReader::read(const TensorEntry& entry, uint64_t byte_offset,
                             std::span<std::byte> out) const {
  HR_CHECK(byte_offset <= entry.size_bytes && out.size() <= entry.size_bytes - byte_offset);
  file_->read(entry.offset + byte_offset, out);
}

void SafetensorsReader::will_need(const TensorEntry& entry, uint64_t byte_offset,
                                  uint64_t length) const {
  file_->will_need(entry.offset + byte_offset, length);
}

SafetensorsWriter::SafetensorsWriter(WritableFile& file, const std::vector<TensorSpec>& tensors)
    : file_(file) {
  std::string header = "{";
  for (const TensorSpec& tensor : tensors) {
    const uint64_t begin = data_bytes_;
    data_bytes_ += tensor.size_bytes();
    header +=
        fmt::format(R"({}{}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                    header.size() == 1 ? "" : ",", nlohmann::json(tensor.name).dump(),
                    type_name(tensor.dtype), fmt::join(tensor.shape, ","), begin, data_bytes_);
  }
  header += "}";
  const uint64_t end = kLengthBytes + header.size();
  header.resize((end + kDataAlignment - 1) / kDataAlignment * kDataAlignment - kLengthBytes, ' ');
  const uint64_t header_bytes = header.size();
  file_.append(std::as_bytes(std::span(&header_bytes, 1)));
  append_text(file_, header);
}

void SafetensorsWriter::append(std::span<const std::byte> data) {
  HR_CHECK(data.size() <= data_bytes_ - appended_bytes_);
  file_.append(data);
  appended_bytes_ += data.size();
}

void SafetensorsWriter::finish() const { HR_CHECK(appended_bytes_ == data_bytes_); }

}  // namespace headrace
