#include "tensor/npy.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <limits>
#include <string_view>

#include <unistd.h>

#include "base/error.h"

namespace headrace {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr uint64_t kHeaderLimit = 65536;
constexpr size_t kAlignment = 64;

[[noreturn]] void corrupt(const std::string& path, std::string_view what) {
  fail(ErrorCode::kCorrupt, "[npy] {}: {}: is it a NumPy .npy file?", path, what);
}

/// What follows `'key':` in the header's dictionary, blanks skipped.
std::string_view after_key(std::string_view header, std::string_view key, const std::string& path) {
  const size_t at = header.find(fmt::format("'{}':", key));
  if (at == std::string_view::npos) corrupt(path, fmt::format("the header has no '{}'", key));
  header.remove_prefix(at + key.size() + 3);
  header.remove_prefix(std::min(header.find_first_not_of(' '), header.size()));
  return header;
}

std::vector<int64_t> parse_shape(std::string_view text, const std::string& path) {
  if (!text.starts_with('(') || text.find(')') == std::string_view::npos) {
    corrupt(path, "the shape is not a tuple");
  }
  text = text.substr(1, text.find(')') - 1);
  std::vector<int64_t> shape;
  while (true) {
    text.remove_prefix(std::min(text.find_first_not_of(", "), text.size()));
    if (text.empty()) return shape;
    int64_t size = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), size);
    if (error != std::errc() || size < 0) corrupt(path, "the shape holds something not a size");
    shape.push_back(size);
    text.remove_prefix(static_cast<size_t>(end - text.data()));
  }
}

struct Header {
  size_t element_bytes = 4;
  int64_t rows = 1;
  int64_t columns = 0;
  uint64_t data_offset = 0;
};

std::string read_header_text(const RandomAccessFile& file, uint64_t& data_offset) {
  std::array<unsigned char, 12> prefix{};
  const size_t have = static_cast<size_t>(std::min<uint64_t>(file.size(), prefix.size()));
  file.read(0, std::as_writable_bytes(std::span(prefix)).first(have));
  if (have < prefix.size() || std::memcmp(prefix.data(), kMagic.data(), kMagic.size()) != 0) {
    corrupt(file.path(), "it does not begin with NumPy's mark");
  }
  const bool wide = prefix[6] >= 2;
  uint64_t length = static_cast<uint64_t>(prefix[8]) | static_cast<uint64_t>(prefix[9]) << 8;
  if (wide) {
    length |= static_cast<uint64_t>(prefix[10]) << 16 | static_cast<uint64_t>(prefix[11]) << 24;
  }
  const uint64_t begin = wide ? 12 : 10;
  if (length > kHeaderLimit || length > file.size() - begin) {
    corrupt(file.path(), "its header is longer than the file");
  }
  std::string text(length, '\0');
  file.read(begin, std::as_writable_bytes(std::span(text)));
  data_offset = begin + length;
  return text;
}

Header read_header(const RandomAccessFile& file) {
  Header header;
  const std::string text = read_header_text(file, header.data_offset);
  const std::string_view descr = after_key(text, "descr", file.path());
  if (descr.starts_with("'<i8'")) {
    header.element_bytes = 8;
  } else if (!descr.starts_with("'<i4'")) {
    fail(ErrorCode::kUnsupported, "[npy] {}: the data type is {}: token ids are int32 or int64",
         file.path(), descr.substr(0, descr.find(',')));
  }
  if (after_key(text, "fortran_order", file.path()).starts_with("True")) {
    fail(ErrorCode::kUnsupported, "[npy] {} is in Fortran order: save it in C order", file.path());
  }
  const std::vector<int64_t> shape = parse_shape(after_key(text, "shape", file.path()), file.path());
  if (shape.empty() || shape.size() > 2) {
    fail(ErrorCode::kUnsupported, "[npy] {} has {} dimensions: token ids have one or two", file.path(),
         shape.size());
  }
  header.columns = shape.back();
  if (shape.size() == 2) header.rows = shape[0];
  const uint64_t available = (file.size() - header.data_offset) / header.element_bytes;
  const auto columns = static_cast<uint64_t>(header.columns);
  const auto rows = static_cast<uint64_t>(header.rows);
  if (columns != 0 && rows > available / columns) {
    corrupt(file.path(), "it is shorter than its shape says");
  }
  if (columns == 0 && rows > available) corrupt(file.path(), "its rows are empty");
  return header;
}

std::string header_text(NpyDType dtype, const std::vector<int64_t>& shape) {
  std::string text = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}{}), }}",
                                 dtype == NpyDType::kFloat32 ? "<f4" : "<i4",
                                 fmt::join(shape, ", "), shape.size() == 1 ? "," : "");
  const size_t unpadded = kMagic.size() + 4 + text.size() + 1;
  text.append((kAlignment - unpadded % kAlignment) % kAlignment, ' ');
  text += '\n';
  std::string header(kMagic);
  header += '\x01';
  header += '\0';
  header += static_cast<char>(text.size() & 0xff);
  header += static_cast<char>(text.size() >> 8);
  return header + text;
}

}  // namespace

NpyIntMatrix read_npy_int_matrix(FileSystem& fs, const std::string& path) {
  const auto file = fs.open(path);
  const Header header = read_header(*file);
  NpyIntMatrix matrix{.rows = header.rows, .columns = header.columns, .values = {}};
  const auto count = static_cast<size_t>(header.rows * header.columns);
  std::vector<std::byte> bytes(count * header.element_bytes);
  file->read(header.data_offset, bytes);
  matrix.values.resize(count);
  for (size_t i = 0; i < count; ++i) {
    int64_t value = 0;
    if (header.element_bytes == 8) {
      std::memcpy(&value, bytes.data() + i * 8, 8);
    } else {
      int32_t narrow = 0;
      std::memcpy(&narrow, bytes.data() + i * 4, 4);
      value = narrow;
    }
    if (value < std::numeric_limits<int32_t>::min() || value > std::numeric_limits<int32_t>::max()) {
      fail(ErrorCode::kCorrupt, "[npy] {}: element {} is {}, no token id is that large", path, i,
           value);
    }
    matrix.values[i] = static_cast<int32_t>(value);
  }
  return matrix;
}

NpyWriter::NpyWriter(FileSystem& fs, std::string path, NpyDType dtype,
                     const std::vector<int64_t>& shape)
    : fs_(fs), path_(std::move(path)), temporary_(fmt::format("{}.tmp-{}", path_, ::getpid())) {
  HR_CHECK(!shape.empty());
  row_bytes_ = static_cast<uint64_t>(shape.back()) * 4;
  rows_ = 1;
  for (size_t i = 0; i + 1 < shape.size(); ++i) rows_ *= shape[i];
  file_ = fs_.create(temporary_);
  const std::string header = header_text(dtype, shape);
  header_bytes_ = header.size();
  append_text(*file_, header);
}

NpyWriter::~NpyWriter() {
  if (committed_) return;
  file_.reset();
  try {
    fs_.remove(temporary_);
  } catch (const Error&) {  // best effort: the first error is already on its way to the user
  }
}

void NpyWriter::fill_to(uint64_t end) {
  static constexpr std::array<std::byte, 65536> kZeros{};
  while (file_->size() < end) {
    file_->append(std::span(kZeros).first(
        static_cast<size_t>(std::min<uint64_t>(kZeros.size(), end - file_->size()))));
  }
}

void NpyWriter::write_bytes(int64_t row, std::span<const std::byte> data) {
  HR_CHECK(data.size() == row_bytes_ && row >= 0 && row < rows_);
  const uint64_t offset = header_bytes_ + static_cast<uint64_t>(row) * row_bytes_;
  fill_to(offset);
  if (offset == file_->size()) {
    file_->append(data);
  } else {
    file_->write_at(offset, data);
  }
  next_row_ = row + 1;
}

void NpyWriter::commit() {
  fill_to(header_bytes_ + static_cast<uint64_t>(rows_) * row_bytes_);
  file_->sync();
  file_.reset();
  fs_.rename(temporary_, path_);
  committed_ = true;
}

}  // namespace headrace
