// A safetensors file, whole. What its header promises must lie inside the file.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/error.h"
#include "checkpoint/safetensors.h"
#include "tests/support/memory_file.h"

namespace headrace {
namespace {

void parse(std::span<const std::byte> data) {
  const auto reader = SafetensorsReader::read(std::make_unique<testing::MemoryFile>(data));
  size_t total = 0;
  for (const TensorEntry& entry : reader.entries()) {
    HR_CHECK(reader.find(entry.name) == &entry);
    std::vector<std::byte> bytes(entry.size_bytes);
    reader.read(entry, 0, bytes);
    total += bytes.size();
  }
  HR_CHECK(total < data.size());
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
