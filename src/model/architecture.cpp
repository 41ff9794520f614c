#include "model/architecture.h"

#include <array>
#include <string>

#include "base/error.h"

namespace headrace {
namespace {

struct Entry {
  std::string_view name;
  ForwardFunction forward;
};

constexpr std::array kRegistry = {
    Entry{.name = "LlamaForCausalLM", .forward = llama_forward},
};

}  // namespace

ForwardFunction find_architecture(std::string_view name) {
  std::string known;
  for (const Entry& entry : kRegistry) {
    if (entry.name == name) return entry.forward;
    known += known.empty() ? "" : ", ";
    known += entry.name;
  }
  fail(ErrorCode::kUnsupported, "[model] architecture '{}' is not known: this version runs {}",
       name, known);
}

}  // namespace headrace
