#include "checkpoint/architecture.h"

#include "base/error.h"
#include "checkpoint/text_check.h"

namespace headrace {
const std::vector<const Architecture*>& architectures() {
  static const std::vector<const Architecture*> all = {&kLlamaArchitecture};
  return all;
}

const Architecture& find_architecture(std::string_view name, std::string_view where) {
  std::string known;
  for (const Architecture* architecture : architectures()) {
    if (architecture->name == name) return *architecture;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", architecture->name);
  }
  fail(ErrorCode::kUnsupported, "[config] {}: the architecture '{}' is not supported: {}", where,
       printable(name), known + " is");
}

}  // namespace headrace
