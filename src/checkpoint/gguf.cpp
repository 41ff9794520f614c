#include "checkpoint/gguf.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>

#include "base/error.h"
#include "checkpoint/gguf_scanner.h"
#include "checkpoint/text_check.h"

namespace headrace {
namespace {

static_assert(std::endian::native == std::endian::little, "values are read as they are stored");

constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr uint32_t kOldestVersion = 2;
constexpr uint32_t kNewestVersion = 3;
constexpr uint32_t kMaxDimensions = 4;
constexpr uint64_t kMaxKeys = 65536;
constexpr uint64_t kMaxTensors = uint64_t{1} << 20;
constexpr uint64_t kMaxNameBytes = 65535;
constexpr uint64_t kMaxTextBytes = uint64_t{16} << 20;
constexpr int64_t kDefaultAlignment = 32;
constexpr int64_t kMaxAlignment = int64_t{1} << 20;

/// Types of metadata values; the numbers are the format's.
enum class ValueType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

/// Least bytes that a value of the type takes.
uint64_t least_bytes(ValueType type) {
  switch (type) {
    case ValueType::kUint8:
    case ValueType::kInt8:
    case ValueType::kBool:
      return 1;
    case ValueType::kUint16:
    case ValueType::kInt16:
      return 2;
    case ValueType::kUint32:
    case ValueType::kInt32:
    case ValueType::kFloat32:
      return 4;
    default:
      return 8;
  }
}

/// Reads the keys and values at the front of a file.
class ValueReader {
 public:
  ValueReader(GgufScanner& in, const std::string& path) : in_(in), path_(path) {}

  GgufValue read(const std::string& key) {
    key_ = &key;
    const auto type = static_cast<ValueType>(in_.take<uint32_t>());
    switch (type) {
      case ValueType::kArray:
        return read_array();
      case ValueType::kFloat32:
      case ValueType::kFloat64:
        return fraction(type);
      case ValueType::kBool:
        return boolean();
      case ValueType::kString:
        return text();
      default:
        return integer(type);
    }
  }

 private:
  template <typename... Args>
  [[noreturn]] void corrupt(fmt::format_string<Args...> format, Args&&... args) const {
    fail(ErrorCode::kCorrupt, "[gguf] {}: key {}: {}", path_, printable(*key_),
         fmt::format(format, std::forward<Args>(args)...));
  }

  int64_t integer(ValueType type) {
    switch (type) {
      case ValueType::kUint8:
        return in_.take<uint8_t>();
      case ValueType::kInt8:
        return in_.take<int8_t>();
      case ValueType::kUint16:
        return in_.take<uint16_t>();
      case ValueType::kInt16:
        return in_.take<int16_t>();
      case ValueType::kUint32:
        return in_.take<uint32_t>();
      case ValueType::kInt32:
        return in_.take<int32_t>();
      case ValueType::kInt64:
        return in_.take<int64_t>();
      case ValueType::kUint64: {
        const auto value = in_.take<uint64_t>();
        if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
          corrupt("{} is too large", value);
        }
        return static_cast<int64_t>(value);
      }
      default:
        corrupt("unknown value type {}", static_cast<uint32_t>(type));
    }
  }
  double fraction(ValueType type) {
    return type == ValueType::kFloat32 ? static_cast<double>(in_.take<float>())
                                       : in_.take<double>();
  }
  bool boolean() {
    const auto value = in_.take<uint8_t>();
    if (value > 1) corrupt("{} is neither true nor false", value);
    return value == 1;
  }
  std::string text() { return in_.take_text(kMaxTextBytes, "a text"); }

  template <typename T, typename F>
  static std::vector<T> repeat(uint64_t count, F&& read_one) {
    std::vector<T> values;
    values.reserve(count);
    for (uint64_t i = 0; i < count; ++i) values.push_back(read_one());
    return values;
  }

  GgufValue read_array() {
    const auto type = static_cast<ValueType>(in_.take<uint32_t>());
    const auto count = in_.take<uint64_t>();
    in_.expect(count, least_bytes(type), "values in a list");
    switch (type) {
      case ValueType::kArray:
        fail(ErrorCode::kUnsupported, "[gguf] {}: key {} is a list of lists, which is not known",
             path_, printable(*key_));
      case ValueType::kFloat32:
      case ValueType::kFloat64:
        return repeat<double>(count, [&] { return fraction(type); });
      case ValueType::kBool:
        return repeat<bool>(count, [&] { return boolean(); });
      case ValueType::kString:
        return repeat<std::string>(count, [&] { return text(); });
      default:
        return repeat<int64_t>(count, [&] { return integer(type); });
    }
  }

  GgufScanner& in_;
  const std::string& path_;
  const std::string* key_ = nullptr;
};

std::string take_name(GgufScanner& in, const char* what, const std::string& path) {
  std::string name = in.take_text(kMaxNameBytes, what);
  if (name.empty() || !is_utf8(name)) {
    fail(ErrorCode::kCorrupt, "[gguf] {}: {} '{}' is empty or not UTF-8", path, what,
         printable(name));
  }
  return name;
}

void check_version(uint32_t version, const std::string& path) {
  if (version >= kOldestVersion && version <= kNewestVersion) return;
  if (version % 65536 == 0 && version != 0) {
    fail(ErrorCode::kUnsupported, "[gguf] {} is big-endian: little-endian files can be read", path);
  }
  fail(ErrorCode::kUnsupported, "[gguf] {} has format version {}: {} and {} can be read", path,
       version, kOldestVersion, kNewestVersion);
}

/// Reads an entry of the tensor list; `offset` is still relative to the data.
GgufTensor take_tensor(GgufScanner& in, const std::string& path) {
  GgufTensor tensor;
  tensor.name = take_name(in, "a tensor's name", path);
  const auto corrupt = [&](std::string_view what) {
    fail(ErrorCode::kCorrupt, "[gguf] {}: tensor {} {}", path, printable(tensor.name), what);
  };
  const auto dimensions = in.take<uint32_t>();
  if (dimensions < 1 || dimensions > kMaxDimensions) {
    corrupt(fmt::format("has {} dimensions", dimensions));
  }
  uint64_t elements = 1;
  for (uint32_t i = 0; i < dimensions; ++i) {
    const auto size = in.take<uint64_t>();
    constexpr uint64_t kMaxElements = uint64_t{1} << 48;
    if (size == 0 || size > kMaxElements || elements > kMaxElements / size) {
      corrupt(fmt::format("has a dimension of {}", size));
    }
    elements *= size;
    tensor.shape.insert(tensor.shape.begin(), static_cast<int64_t>(size));
  }
  const auto number = in.take<uint32_t>();
  const auto type = quant_type_from_number(number);
  if (!type) {
    fail(ErrorCode::kUnsupported,
         "[gguf] {}: tensor {} is of type {}: F32, F16, BF16, Q8_0, Q4_0 and Q4_1 can be read",
         path, printable(tensor.name), quant_type_name(number));
  }
  tensor.type = *type;
  if (tensor.row_elements() % block_elements(*type) != 0) {
    corrupt(fmt::format("has rows of {} elements, no whole number of {} blocks",
                        tensor.row_elements(), quant_type_name(number)));
  }
  tensor.size_bytes = elements / static_cast<uint64_t>(block_elements(*type)) * block_bytes(*type);
  tensor.offset = in.take<uint64_t>();
  return tensor;
}

}  // namespace

int64_t GgufTensor::rows() const {
  int64_t count = 1;
  for (size_t i = 0; i + 1 < shape.size(); ++i) count *= shape[i];
  return count;
}

uint64_t GgufTensor::row_bytes() const {
  return static_cast<uint64_t>(row_elements() / block_elements(type)) * block_bytes(type);
}

GgufFile GgufFile::open(FileSystem& fs, const std::string& path) { return read(fs.open(path)); }

GgufFile GgufFile::read(std::unique_ptr<RandomAccessFile> file) {
  GgufFile gguf(std::move(file));
  const std::string& path = gguf.path();
  GgufScanner in(*gguf.file_);
  if (gguf.file_bytes() < sizeof kMagic || in.take<uint32_t>() != kMagic) {
    fail(ErrorCode::kCorrupt, "[gguf] {} is not a GGUF file", path);
  }
  check_version(in.take<uint32_t>(), path);
  const auto tensor_count = in.take<uint64_t>();
  const auto key_count = in.take<uint64_t>();
  constexpr uint64_t kLeastTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;
  in.expect(tensor_count, kLeastTensorBytes, "tensors");
  if (key_count > kMaxKeys || tensor_count > kMaxTensors) {
    fail(ErrorCode::kCorrupt, "[gguf] {}: {} keys and {} tensors are more than any model has", path,
         key_count, tensor_count);
  }
  ValueReader values(in, path);
  for (uint64_t i = 0; i < key_count; ++i) {
    std::string key = take_name(in, "a key", path);
    GgufValue value = values.read(key);
    if (!gguf.metadata_.emplace(key, std::move(value)).second) {
      fail(ErrorCode::kCorrupt, "[gguf] {}: key {} is there twice", path, printable(key));
    }
  }
  for (uint64_t i = 0; i < tensor_count; ++i) {
    gguf.tensors_.push_back(take_tensor(in, path));
    if (!gguf.index_.emplace(gguf.tensors_.back().name, i).second) {
      fail(ErrorCode::kCorrupt, "[gguf] {}: tensor {} is there twice", path,
           printable(gguf.tensors_.back().name));
    }
  }
  const uint64_t alignment = gguf.alignment();
  gguf.check_tensors((in.position() + alignment - 1) / alignment * alignment);
  return gguf;
}

uint64_t GgufFile::alignment() const {
  const int64_t alignment = integer("general.alignment", kDefaultAlignment);
  if (alignment < 1 || alignment > kMaxAlignment ||
      !std::has_single_bit(static_cast<uint64_t>(alignment))) {
    fail(ErrorCode::kCorrupt, "[gguf] {}: general.alignment is {}; it should be a power of 2",
         path(), alignment);
  }
  return static_cast<uint64_t>(alignment);
}

void GgufFile::check_tensors(uint64_t data_begin) {
  const uint64_t step = alignment();
  const uint64_t data_bytes = data_begin > file_bytes() ? 0 : file_bytes() - data_begin;
  std::vector<const GgufTensor*> by_offset;
  for (GgufTensor& tensor : tensors_) {
    if (tensor.offset % step != 0 || tensor.offset > data_bytes ||
        tensor.size_bytes > data_bytes - tensor.offset) {
      fail(ErrorCode::kCorrupt,
           "[gguf] {}: tensor {} of {} bytes lies at byte {} of {} bytes of data: was the file cut "
           "short?",
           path(), printable(tensor.name), tensor.size_bytes, tensor.offset, data_bytes);
    }
    tensor.offset += data_begin;
    by_offset.push_back(&tensor);
  }
  std::ranges::sort(by_offset, {}, [](const GgufTensor* tensor) { return tensor->offset; });
  for (size_t i = 1; i < by_offset.size(); ++i) {
    if (by_offset[i - 1]->offset + by_offset[i - 1]->size_bytes > by_offset[i]->offset) {
      fail(ErrorCode::kCorrupt, "[gguf] {}: the data of tensors {} and {} overlap", path(),
           printable(by_offset[i - 1]->name), printable(by_offset[i]->name));
    }
  }
}

const GgufTensor* GgufFile::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

template <typename T>
const T* GgufFile::find_value(std::string_view key, const char* kind) const {
  const auto found = metadata_.find(key);
  if (found == metadata_.end()) return nullptr;
  const T* value = std::get_if<T>(&found->second);
  if (value == nullptr) {
    fail(ErrorCode::kCorrupt, "[gguf] {}: key {} should be {}", path(), key, kind);
  }
  return value;
}

const int64_t* GgufFile::find_integer(std::string_view key) const {
  return find_value<int64_t>(key, "an integer");
}

const std::string* GgufFile::find_text(std::string_view key) const {
  return find_value<std::string>(key, "a text");
}

const bool* GgufFile::find_boolean(std::string_view key) const {
  return find_value<bool>(key, "true or false");
}

const std::vector<std::string>* GgufFile::find_texts(std::string_view key) const {
  return find_value<std::vector<std::string>>(key, "a list of texts");
}

const std::vector<int64_t>* GgufFile::find_integers(std::string_view key) const {
  return find_value<std::vector<int64_t>>(key, "a list of integers");
}

double GgufFile::number(std::string_view key, double otherwise) const {
  const auto found = metadata_.find(key);
  if (found == metadata_.end()) return otherwise;
  if (const auto* value = std::get_if<int64_t>(&found->second)) {
    return static_cast<double>(*value);
  }
  return *find_value<double>(key, "a number");
}

int64_t GgufFile::integer(std::string_view key) const {
  const int64_t* value = find_integer(key);
  if (value == nullptr) fail(ErrorCode::kCorrupt, "[gguf] {} has no key {}", path(), key);
  return *value;
}

int64_t GgufFile::integer(std::string_view key, int64_t otherwise) const {
  const int64_t* value = find_integer(key);
  return value == nullptr ? otherwise : *value;
}

void GgufFile::read(const GgufTensor& tensor, uint64_t byte_offset,
                    std::span<std::byte> out) const {
  HR_CHECK(byte_offset <= tensor.size_bytes && out.size() <= tensor.size_bytes - byte_offset);
  file_->read(tensor.offset + byte_offset, out);
}

}  // namespace headrace
