// What upstream's types.h brings without any other header.
#include "tensorrt_llm/executor/types.h"

namespace clients {

namespace tle = tensorrt_llm::executor;

// Compiling is all there is to it: nobody calls it.
bool use_types_alone(tle::IterationStats const& stats, tle::RequestStats const& request) {
  bool const cached = stats.kvCacheStats && stats.kvCacheStats->usedNumBlocks > 0;
  bool const queued = request.stage == tle::RequestStage::kQUEUED;
  return (cached || queued) && tle::DecodingMode::TopK().isTopK();
}

}  // namespace clients
