// Chat templates: whatever the source, parsing and rendering end with a text or an Error.

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/error.h"
#include "text/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 4096) return 0;  // longer ones only take longer
  const std::string source(reinterpret_cast<const char*>(data), size);
  try {
    const headrace::ChatTemplate chat(source, "<s>", "</s>");
    chat.render({{"system", "Be brief."}, {"user", " Hi \n"}, {"assistant", "ok"}},
                {.add_generation_prompt = true, .unix_time = 1753000000});
  } catch (const headrace::Error& error) {
    if (error.code() == headrace::ErrorCode::kInternal) throw;
  }
  return 0;
}
