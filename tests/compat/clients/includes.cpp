// Upstream's headers bring these standard ones in, and clients lean on it: no other is included.
#include "tensorrt_llm/common/logger.h"
#include "tensorrt_llm/executor/executor.h"

namespace clients {

// Compiling is all there is to it: nobody calls it.
std::string use_what_comes_along(std::vector<std::int32_t> const& tokens) {
  std::stringstream text;
  std::unordered_map<std::string, std::optional<std::size_t>> counts{{"tokens", tokens.size()}};
  std::chrono::milliseconds const wait(1);
  text << *counts.at("tokens") << ' ' << wait.count();
  return text.str();
}

}  // namespace clients
