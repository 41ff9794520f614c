#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "executor/session.h"
#include "plan/machine_profile.h"
#include "plan/plan.h"

namespace headrace::app {

/// A plan with the memory that a session needs besides, and how many sequences would fit.
struct PlannedSession {
  double percent = 0;
  Plan plan;
  MemoryReport memory;
  int64_t prefill_chunk = 0;
  int64_t largest_batch = 0;  // sequences that fit in what is free; 0: not even one
};

/// What all planned sessions of a report share.
struct PlanReport {
  std::string engine_dir;
  std::string model;  // "LlamaForCausalLM, float16, 30 layers"
  uint64_t tiles = 0;
  int64_t batch_size = 1;
  int64_t sequence_tokens = 0;
  int64_t max_batch_size = 0;        // the engine's
  Home streamed_home = Home::kDisk;  // of what is not resident
  uint64_t available_bytes = 0;
  MachineProfile profile;  // as it was measured
  int host_threads = 0;    // that sessions have
  std::vector<PlannedSession> sessions = {};
};

/// One planned session in full.
std::string plan_text(const PlanReport& report, const PlannedSession& session);
/// A line for each, and what fits.
std::string plan_table(const PlanReport& report);
/// Everything, for programs.
std::string plan_json(const PlanReport& report);

}  // namespace headrace::app
