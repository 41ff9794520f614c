#include "headrace/memory_json.h"

namespace headrace::app {

nlohmann::ordered_json memory_json(const MemoryReport& memory) {
  nlohmann::ordered_json json = {
      {"weights_bytes", memory.weights_bytes}, {"ring_bytes", memory.ring_bytes},
      {"vectors_bytes", memory.vectors_bytes}, {"kv_bytes", memory.kv_bytes},
      {"scratch_bytes", memory.scratch_bytes}, {"total_bytes", memory.total_bytes()}};
  if (memory.measured_weights_bytes) {
    json["measured_weights_bytes"] = *memory.measured_weights_bytes;
  }
  return json;
}

}  // namespace headrace::app
