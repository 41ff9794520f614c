#include "tests/support/safetensors_file.h"

#include <cstring>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/file.h"
#include "tensor/float16.h"

namespace headrace::testing {
namespace {

const char* safetensors_dtype(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return "F32";
    case DType::kFloat16:
      return "F16";
    case DType::kBFloat16:
      return "BF16";
  }
  return "";
}

template <typename T>
void append_value(std::vector<std::byte>& bytes, T value) {
  const auto* first = reinterpret_cast<const std::byte*>(&value);
  bytes.insert(bytes.end(), first, first + sizeof(T));
}

}  // namespace

void write_safetensors(const std::string& path, const std::vector<NamedTensor>& tensors) {
  std::string header = "{";
  uint64_t offset = 0;
  for (const NamedTensor& tensor : tensors) {
    header += fmt::format(R"({}"{}":{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                          offset == 0 ? "" : ",", tensor.name, safetensors_dtype(tensor.dtype),
                          fmt::join(tensor.shape, ","), offset, offset + tensor.bytes.size());
    offset += tensor.bytes.size();
  }
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  const auto file = posix_file_system().create(path);
  std::vector<std::byte> length;
  append_value(length, uint64_t{header.size()});
  file->append(length);
  append_text(*file, header);
  for (const NamedTensor& tensor : tensors) file->append(tensor.bytes);
}

std::vector<std::byte> to_bytes(const std::vector<float>& values, DType dtype) {
  std::vector<std::byte> bytes;
  bytes.reserve(values.size() * dtype_size(dtype));
  for (const float value : values) {
    if (dtype == DType::kFloat32) append_value(bytes, value);
    if (dtype == DType::kFloat16) append_value(bytes, float_to_float16(value));
    if (dtype == DType::kBFloat16) append_value(bytes, float_to_bfloat16(value));
  }
  return bytes;
}

std::vector<float> random_values(uint64_t seed, int64_t count, float scale) {
  std::vector<float> values(static_cast<size_t>(count));
  uint64_t state = seed * 0x9e3779b97f4a7c15u;
  for (float& value : values) {  // splitmix64 (Steele, Lea and Flood 2014)
    state += 0x9e3779b97f4a7c15u;
    uint64_t mixed = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
    mixed ^= mixed >> 31;
    value = (static_cast<float>(mixed >> 40) * 0x1p-23f - 1.0f) * scale;
  }
  return values;
}

}  // namespace headrace::testing
