// A checkpoint's config.json. What is accepted must survive being written and read again.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "checkpoint/model_config.h"

namespace headrace {
namespace {

void parse(std::string_view text) {
  const ModelConfig config = parse_model_config(text, "fuzz");
  HR_CHECK(config.qkv_size() > 0 && config.hidden_size > 0 && config.head_size % 2 == 0);
  const std::string written = model_config_to_json(config);
  HR_CHECK(model_config_to_json(parse_model_config(written, "fuzz")) == written);
}

}  // namespace
}  // namespace headrace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    headrace::parse({reinterpret_cast<const char*>(data), size});
  } catch (const headrace::Error& error) {
    if (error.code() == headrace::ErrorCode::kInternal) __builtin_trap();
  }
  return 0;
}
