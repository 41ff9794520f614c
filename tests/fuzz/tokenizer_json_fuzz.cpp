// tokenizer.json and tokenizer_gguf.json: whatever the bytes, loading ends with a tokenizer or an
// Error; a tokenizer encodes and decodes.

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "base/error.h"
#include "tests/support/memory_file_system.h"
#include "text/tokenizer.h"

namespace {

constexpr std::string_view kText =
    "Hello  <s> w\xC3\xB6rld \xF0\x9F\x98\x80\n 12 a\xCC\x81 \xFF don't";

void try_load(const std::string& name, const std::string& content) {
  headrace::testing::MemoryFileSystem fs(
      std::map<std::string, std::string>{{"d/" + name, content}});
  try {
    const auto tokenizer = headrace::Tokenizer::load(fs, "d");
    const auto ids = tokenizer->encode(kText);
    tokenizer->decode(ids, false);
    if (!tokenizer->chat_template().empty()) tokenizer->apply_chat_template({{"user", "hi"}});
  } catch (const headrace::Error& error) {
    if (error.code() == headrace::ErrorCode::kInternal) throw;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string content(reinterpret_cast<const char*>(data), size);
  try_load("tokenizer.json", content);
  try_load("tokenizer_gguf.json", content);
  return 0;
}
