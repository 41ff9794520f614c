#include "checkpoint/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>
#include <utility>

#include "base/error.h"

namespace headrace {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

/// As the format's own reader allows.
constexpr uint64_t kMaxHeaderBytes = 100'000'000;

}  // namespace

SafetensorsReader SafetensorsReader::open(FileSystem& fs, const std::string& path) {
  return read(fs.open(path));
}

SafetensorsReader SafetensorsReader::read(std::unique_ptr<RandomAccessFile> file) {
  SafetensorsReader reader;
  reader.file_ = std::move(file);
  const std::string& path = reader.path();
  const uint64_t file_bytes = reader.file_->size();
  uint64_t header_bytes = 0;
  if (file_bytes < sizeof header_bytes) {
    fail(ErrorCode::kCorrupt, "[safetensors] {} is too short: {} bytes", path, file_bytes);
  }
  reader.file_->read(0, std::as_writable_bytes(std::span(&header_bytes, 1)));
  if (header_bytes > file_bytes - sizeof header_bytes || header_bytes > kMaxHeaderBytes) {
    fail(ErrorCode::kCorrupt,
         "[safetensors] {} is not a safetensors file: a header of {} bytes in a file of {}", path,
         header_bytes, file_bytes);
  }
  std::string text(header_bytes, '\0');
  reader.file_->read(sizeof header_bytes, std::as_writable_bytes(std::span(text)));
  reader.entries_ =
      parse_safetensors_header(text, sizeof header_bytes + header_bytes, file_bytes, path);
  reader.by_name_.resize(reader.entries_.size());
  std::iota(reader.by_name_.begin(), reader.by_name_.end(), 0u);
  std::ranges::sort(reader.by_name_, {},
                    [&](uint32_t i) -> const std::string& { return reader.entries_[i].name; });
  return reader;
}

const TensorEntry* SafetensorsReader::find(std::string_view name) const {
  const auto name_of = [&](uint32_t i) { return std::string_view(entries_[i].name); };
  const auto found = std::ranges::lower_bound(by_name_, name, {}, name_of);
  return found == by_name_.end() || name_of(*found) != name ? nullptr : &entries_[*found];
}

void SafetensorsReader::read(const TensorEntry& entry, uint64_t byte_offset,
                             std::span<std::byte> out) const {
  HR_CHECK(byte_offset <= entry.size_bytes && out.size() <= entry.size_bytes - byte_offset);
  file_->read(entry.offset + byte_offset, out);
}

}  // namespace headrace
