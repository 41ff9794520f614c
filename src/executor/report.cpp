#include "base/format.h"
#include "base/log.h"
#include "executor/session.h"

namespace headrace {

void report_plan(const Session& session, Log& log) {
  const Plan& plan = session.plan();
  const MemoryReport memory = session.memory();
  log.info("{}", session.backend().description());
  log.info("{}", gpu_weights_percent_line(plan, session.budget()));
  log.info("Weights: {} resident, {} streamed a pass from {}", format_bytes(plan.resident_bytes),
           format_bytes(plan.streamed_bytes), session.stream().description());
  log.info("Memory: {} weights + {} ring + {} KV cache + {} scratch + {} norms and biases = {}",
           format_bytes(memory.weights_bytes), format_bytes(memory.ring_bytes),
           format_bytes(memory.kv_bytes), format_bytes(memory.scratch_bytes),
           format_bytes(memory.vectors_bytes), format_bytes(memory.total_bytes()));
  if (memory.measured_weights_bytes) {
    log.info("The device's driver counts {} for weights and ring",
             format_bytes(*memory.measured_weights_bytes));
  }
  log.info("Predicted: {:.1f} ms a decode pass, bound by {}", plan.predicted_pass_ms,
           bound_name(plan.bound));
}

}  // namespace headrace
