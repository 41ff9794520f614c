#include "checkpoint/safetensors_writer.h"

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace headrace {
namespace {

constexpr size_t kHeaderAlignment = 64;  // of the data, so that rows can be mapped and vectorised

const char* stored_type(DType dtype) {
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

SafetensorsWriter::SafetensorsWriter(WritableFile& file, std::span<const TensorToWrite> tensors)
    : file_(file) {
  nlohmann::ordered_json header;
  header["__metadata__"] = {{"format", "pt"}};
  for (const TensorToWrite& tensor : tensors) {
    uint64_t bytes = dtype_size(tensor.dtype);
    for (const int64_t dimension : tensor.shape) bytes *= static_cast<uint64_t>(dimension);
    // push_back: a lookup by name in an ordered object is linear
    header.get_ref<nlohmann::ordered_json::object_t&>().emplace_back(
        tensor.name, nlohmann::ordered_json{{"dtype", stored_type(tensor.dtype)},
                                            {"shape", tensor.shape},
                                            {"data_offsets", {data_bytes_, data_bytes_ + bytes}}});
    data_bytes_ += bytes;
  }
  std::string text = header.dump();
  const size_t unpadded = sizeof(uint64_t) + text.size();
  text.append((kHeaderAlignment - unpadded % kHeaderAlignment) % kHeaderAlignment, ' ');
  const uint64_t length = text.size();
  file_.append(std::as_bytes(std::span(&length, 1)));
  append_text(file_, text);
}

void SafetensorsWriter::append(std::span<const std::byte> bytes) {
  HR_CHECK(bytes.size() <= data_bytes_ - written_bytes_);
  file_.append(bytes);
  written_bytes_ += bytes.size();
}

void SafetensorsWriter::finish() const { HR_CHECK(written_bytes_ == data_bytes_); }

}  // namespace headrace
