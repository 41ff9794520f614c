#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

// Clients of TensorRT-LLM's Executor API, written as its users write them and compiled as C++17.
// Each serves requests on the engine in `engineDir` and returns what it got.
namespace clients {

using Tokens = std::vector<std::int32_t>;

/// One request, and one response that holds everything.
Tokens runBasic(std::string const& engineDir);

struct AdvancedOptions {
  bool streaming = false;
  bool excludeInputFromOutput = false;
  std::int32_t beamWidth = 1;
  std::int32_t numReturnSequences = 0;  // 0: not set
  bool useOrchestratorMode = false;
};
/// Several requests at once; the sequences of each, by request.
std::vector<std::vector<Tokens>> runAdvanced(std::string const& engineDir,
                                             std::vector<Tokens> prompts,
                                             AdvancedOptions const& options);

/// A logits post-processor that forces `forced` in turn, for as many tokens as `count`. Registered
/// as v0.13 does it, or as earlier versions did.
Tokens runLogitsProcessor(std::string const& engineDir, Tokens const& forced, int count,
                          bool beforeV013);

/// Asks for tensors to be dumped that do not exist.
Tokens runDebug(std::string const& engineDir);

}  // namespace clients
