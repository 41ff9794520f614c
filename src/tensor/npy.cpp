#include "tensor/npy.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cstring>
#include <limits>
#include <optional>

#include <unistd.h>

#include "base/error.h"

namespace headrace {
namespace {

static_assert(std::endian::native == std::endian::little,
              "elements are written as they lie in memory");

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr size_t kPreambleBytes = 10;  // magic, version, length of the description
constexpr size_t kAlignment = 64;
constexpr uint64_t kMaxDescription = 64 << 10;
constexpr uint64_t kMaxInputBytes = uint64_t{1} << 30;
constexpr uint64_t kMaxArrayBytes = uint64_t{1} << 62;
constexpr size_t kMaxDimensions = 32;
constexpr size_t kElementBytes = 4;  // of both types that are written

/// What a header says.
struct Description {
  std::string type;
  bool fortran_order = false;
  std::vector<uint64_t> shape;
};

/// Reads the Python dictionary of a header: strings, booleans and a tuple of integers are all that
/// it may hold.
class DescriptionParser {
 public:
  DescriptionParser(std::string_view text, const std::string& path) : text_(text), path_(path) {}

  Description parse() {
    expect('{');
    while (!accept('}')) {
      const std::string key = string();
      expect(':');
      value(key);
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    skip_space();
    if (at_ != text_.size()) refuse("something follows the dictionary");
    if (!has_type_ || !has_order_ || !has_shape_)
      refuse("descr, fortran_order or shape is missing");
    return description_;
  }

 private:
  [[noreturn]] void refuse(std::string_view why) const {
    fail(ErrorCode::kCorrupt,
         "[npy] {}: the header cannot be read ({} at byte {}): write the file with "
         "numpy.save",
         path_, why, at_);
  }

  void skip_space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
  }

  bool accept(char c) {
    skip_space();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  void expect(char c) {
    if (!accept(c)) refuse(fmt::format("no '{}'", c));
  }

  bool accept_word(std::string_view word) {
    skip_space();
    if (!text_.substr(at_).starts_with(word)) return false;
    at_ += word.size();
    return true;
  }

  std::string string() {
    skip_space();
    const char quote = at_ < text_.size() ? text_[at_] : '\0';
    if (quote != '\'' && quote != '"') refuse("no string");
    const size_t end = text_.find(quote, at_ + 1);
    if (end == std::string_view::npos) refuse("a string does not end");
    const std::string_view content = text_.substr(at_ + 1, end - at_ - 1);
    at_ = end + 1;
    return std::string(content);
  }

  void value(std::string_view key) {
    if (key == "descr" && !has_type_) {
      description_.type = string();
      has_type_ = true;
    } else if (key == "fortran_order" && !has_order_) {
      description_.fortran_order = accept_word("True");
      if (!description_.fortran_order && !accept_word("False")) refuse("no True or False");
      has_order_ = true;
    } else if (key == "shape" && !has_shape_) {
      shape();
      has_shape_ = true;
    } else {
      refuse("an unknown or repeated key");
    }
  }

  void shape() {
    expect('(');
    while (!accept(')')) {
      skip_space();
      uint64_t size = 0;
      const char* begin = text_.data() + at_;
      const auto [end, error] = std::from_chars(begin, text_.data() + text_.size(), size);
      if (error != std::errc()) refuse("no dimension");
      at_ += static_cast<size_t>(end - begin);
      if (description_.shape.size() == kMaxDimensions) refuse("too many dimensions");
      description_.shape.push_back(size);
      if (!accept(',')) {
        expect(')');
        break;
      }
    }
  }

  std::string_view text_;
  const std::string& path_;
  size_t at_ = 0;
  Description description_;
  bool has_type_ = false;
  bool has_order_ = false;
  bool has_shape_ = false;
};

/// Splits a file into its description and its elements.
Description split_file(std::string_view content, const std::string& path,
                       std::string_view& elements) {
  if (content.size() < kPreambleBytes || !content.starts_with(kMagic)) {
    fail(ErrorCode::kCorrupt, "[npy] {} is not a .npy file: write it with numpy.save", path);
  }
  const auto byte = [&](size_t at) { return static_cast<uint8_t>(content[at]); };
  const int major = byte(6);
  if (major < 1 || major > 3) {
    fail(ErrorCode::kUnsupported, "[npy] {} has format version {}.{}: 1.0 to 3.0 are read", path,
         major, byte(7));
  }
  uint64_t length = byte(8) | uint64_t{byte(9)} << 8;
  size_t begin = kPreambleBytes;
  if (major > 1) {
    if (content.size() < kPreambleBytes + 2) {
      fail(ErrorCode::kCorrupt, "[npy] {} ends within its header", path);
    }
    length |= uint64_t{byte(10)} << 16 | uint64_t{byte(11)} << 24;
    begin += 2;
  }
  if (length > kMaxDescription || length > content.size() - begin) {
    fail(ErrorCode::kCorrupt, "[npy] {}: a header of {} bytes does not fit the file's {}", path,
         length, content.size());
  }
  elements = content.substr(begin + length);
  return DescriptionParser(content.substr(begin, length), path).parse();
}

/// Rows and columns, such that rows * columns * element_bytes is the size of `elements`.
std::pair<uint64_t, uint64_t> check_shape(const Description& description, uint64_t element_bytes,
                                          std::string_view elements, const std::string& path) {
  const std::vector<uint64_t>& shape = description.shape;
  if (shape.empty() || shape.size() > 2 || description.fortran_order) {
    fail(ErrorCode::kUnsupported,
         "[npy] {} holds {} dimensions{}: one row of token ids a prompt, in C order, is read", path,
         shape.size(), description.fortran_order ? " in Fortran order" : "");
  }
  const uint64_t rows = shape.size() == 1 ? 1 : shape[0];
  const uint64_t columns = shape.back();
  const uint64_t count = elements.size() / element_bytes;
  const bool fits = columns == 0 || rows == 0
                        ? count == 0
                        : rows <= count && columns <= count / rows && rows * columns == count;
  if (!fits || elements.size() % element_bytes != 0) {
    fail(ErrorCode::kCorrupt,
         "[npy] {}: {} x {} elements of {} bytes are not the {} bytes that follow", path, rows,
         columns, element_bytes, elements.size());
  }
  constexpr auto kLimit = static_cast<uint64_t>(std::numeric_limits<int32_t>::max());
  if (rows > kLimit || columns > kLimit) {
    fail(ErrorCode::kCorrupt, "[npy] {}: {} x {} is not a shape that a file of {} bytes can have",
         path, rows, columns, elements.size());
  }
  return {rows, columns};
}

template <typename T>
void copy_ids(std::string_view elements, const std::string& path, std::vector<int32_t>& ids) {
  for (size_t at = 0; at < elements.size(); at += sizeof(T)) {
    T value = 0;
    std::memcpy(&value, elements.data() + at, sizeof(T));
    if (value < std::numeric_limits<int32_t>::min() ||
        value > std::numeric_limits<int32_t>::max()) {
      fail(ErrorCode::kInvalidArgument, "[npy] {}: {} is not a token id", path, value);
    }
    ids.push_back(static_cast<int32_t>(value));
  }
}

uint64_t array_bytes(std::span<const int64_t> shape, const std::string& path) {
  uint64_t bytes = kElementBytes;
  bool empty = false;
  for (const int64_t size : shape) {
    const auto count = static_cast<uint64_t>(size);
    if (size < 0 || (size > 0 && bytes > kMaxArrayBytes / count)) {
      fail(ErrorCode::kInvalidArgument, "[npy] {}: ({}) is not a shape that can be written", path,
           fmt::join(shape, ", "));
    }
    empty |= size == 0;
    bytes *= std::max<uint64_t>(count, 1);
  }
  if (shape.empty())
    fail(ErrorCode::kInvalidArgument, "[npy] {}: an array needs a dimension", path);
  return empty ? 0 : bytes;
}

}  // namespace

NpyIntMatrix read_npy_int_matrix(FileSystem& fs, const std::string& path) {
  const std::string content = read_text_file(fs, path, kMaxInputBytes);
  std::string_view elements;
  const Description description = split_file(content, path, elements);
  const bool wide = description.type == "<i8";
  if (!wide && description.type != "<i4") {
    fail(ErrorCode::kUnsupported,
         "[npy] {} holds elements of type '{}': token ids are int32 or int64", path,
         description.type);
  }
  const auto [rows, columns] = check_shape(description, wide ? 8 : 4, elements, path);
  NpyIntMatrix matrix{
      .rows = static_cast<int64_t>(rows), .columns = static_cast<int64_t>(columns), .values = {}};
  matrix.values.reserve(static_cast<size_t>(rows * columns));
  if (wide) {
    copy_ids<int64_t>(elements, path, matrix.values);
  } else {
    copy_ids<int32_t>(elements, path, matrix.values);
  }
  return matrix;
}

std::string npy_header(NpyDType dtype, std::span<const int64_t> shape) {
  std::string text = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}{}), }}",
                                 dtype == NpyDType::kFloat32 ? "<f4" : "<i4",
                                 fmt::join(shape, ", "), shape.size() == 1 ? "," : "");
  // NumPy leaves room for the first dimension to grow to 20 digits (21 with the minus sign that it
  // never has), then pads to a multiple of 64 with the newline last.
  const std::string first = shape.empty() ? "" : std::to_string(shape[0]);
  if (!shape.empty()) text.append(21 - first.size(), ' ');
  const size_t used = kPreambleBytes + text.size() + 1;
  text.append(kAlignment - used % kAlignment, ' ');  // a whole 64 if it stands on one, as NumPy
  text += '\n';
  std::string header(kMagic);
  header += '\x01';
  header += '\0';
  header += static_cast<char>(text.size() & 0xff);
  header += static_cast<char>(text.size() >> 8);
  return header + text;
}

NpyWriter::NpyWriter(FileSystem& fs, const std::string& path, NpyDType dtype,
                     std::vector<int64_t> shape)
    : fs_(fs), path_(path), temporary_(fmt::format("{}.tmp{}", path, ::getpid())), dtype_(dtype) {
  const uint64_t elements = array_bytes(shape, path);
  const std::string header = npy_header(dtype, shape);
  header_bytes_ = header.size();
  row_bytes_ = static_cast<uint64_t>(shape.back()) * kElementBytes;
  total_bytes_ = header_bytes_ + elements;
  file_ = fs_.create(temporary_);
  try {
    append_text(*file_, header);
  } catch (const Error&) {
    discard();
    throw;
  }
}

NpyWriter::~NpyWriter() {
  if (file_ != nullptr) discard();
}

void NpyWriter::discard() {
  file_.reset();
  try {
    fs_.remove(temporary_);
  } catch (const Error&) {  // NOLINT(bugprone-empty-catch): nothing better can be done here
  }
}

void NpyWriter::append_bytes(std::span<const std::byte> bytes) {
  HR_CHECK(file_ != nullptr);
  HR_CHECK(row_bytes_ == 0 ? bytes.empty() : bytes.size() % row_bytes_ == 0);
  HR_CHECK(bytes.size() <= total_bytes_ - file_->size());
  file_->append(bytes);
}

void NpyWriter::append(std::span<const float> values) {
  HR_CHECK(dtype_ == NpyDType::kFloat32);
  append_bytes(std::as_bytes(values));
}

void NpyWriter::append(std::span<const int32_t> values) {
  HR_CHECK(dtype_ == NpyDType::kInt32);
  append_bytes(std::as_bytes(values));
}

void NpyWriter::write_row(int64_t row, std::span<const float> values) {
  HR_CHECK(file_ != nullptr && dtype_ == NpyDType::kFloat32);
  HR_CHECK(row >= 0 && row_bytes_ > 0 && values.size_bytes() == row_bytes_);
  const auto index = static_cast<uint64_t>(row);
  HR_CHECK(index < (total_bytes_ - header_bytes_) / row_bytes_);
  const uint64_t offset = header_bytes_ + index * row_bytes_;
  if (offset < file_->size()) {
    file_->write_at(offset, std::as_bytes(values));
    return;
  }
  append_zeros(offset);
  file_->append(std::as_bytes(values));
}

void NpyWriter::append_zeros(uint64_t end) {
  static constexpr std::array<std::byte, size_t{64} << 10> kZeros{};
  while (file_->size() < end) {
    const uint64_t count = std::min<uint64_t>(kZeros.size(), end - file_->size());
    file_->append(std::span(kZeros).first(static_cast<size_t>(count)));
  }
}

void NpyWriter::commit() {
  HR_CHECK(file_ != nullptr);
  append_zeros(total_bytes_);
  file_->sync();
  fs_.rename(temporary_, path_);
  file_.reset();
}

}  // namespace headrace
