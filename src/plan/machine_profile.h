#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace headrace {

/// What a machine can do, measured once and cached (room profile/), or read from --profile FILE.
/// Plain data: the planner computes with it and never measures.
struct MachineProfile {
  std::string machine = {};  // processor, instruction set, disk: identifies what was measured
  int32_t threads = 1;       // threads the compute figures were measured with
  double link_gbps = 0;      // 1e9 bytes/s: disk reads; copies to a device with memory of its own
  double memory_gbps = 0;    // 1e9 bytes/s of weights, canonical kernel, one token row
  double matmul_gflops =
      0;  // 1e9 flop/s (a multiply and an add are two), canonical kernel, 64 rows
  uint64_t free_memory_bytes = 0;  // of fast memory, when measured
};

MachineProfile parse_machine_profile(std::string_view json_text, std::string_view where);
std::string machine_profile_to_json(const MachineProfile& profile);

}  // namespace headrace
