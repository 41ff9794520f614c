// A GGUF file, whole: its tensors must lie inside it and expand, its tokenizer must export or be
// refused.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/error.h"
#include "checkpoint/gguf.h"
#include "checkpoint/gguf_tokenizer.h"
#include "tests/support/memory_file.h"

namespace headrace {
namespace {

void parse(std::span<const std::byte> data) {
  const GgufFile gguf = GgufFile::read(std::make_unique<testing::MemoryFile>(data));
  for (const GgufTensor& tensor : gguf.tensors()) {
    HR_CHECK(gguf.find(tensor.name) == &tensor);
    HR_CHECK(tensor.row_bytes() * static_cast<uint64_t>(tensor.rows()) == tensor.size_bytes);
    std::vector<std::byte> bytes(tensor.size_bytes);
    gguf.read(tensor, 0, bytes);
    std::vector<float> values(static_cast<size_t>(tensor.rows() * tensor.row_elements()));
    dequantize(tensor.type, bytes, values);
  }
  gguf_tokenizer_json(gguf);
}

}  // namespace
}  // namespace headrace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    headrace::parse(std::as_bytes(std::span(data, size)));
  } catch (const headrace::Error& error) {
    if (error.code() == headrace::ErrorCode::kInternal) __builtin_trap();
  }
  return 0;
}
