#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "codec/codec_id.h"

namespace headrace {

/// What all host threads multiply from their memory while the link is busy.
struct HostRate {
  int64_t tokens = 1;
  CodecId codec = CodecId::kRaw;
  double gbps = 0;  // 1e9 bytes/s of the 16-bit weights that the bytes stand for
};

/// What a machine can do, measured once and cached (room profile/), or read from --profile FILE.
/// Plain data: the planner computes with it and never measures.
struct MachineProfile {
  std::string machine = {};  // processors, backend, disk: identifies what was measured
  int32_t threads = 1;       // threads the compute figures were measured with
  double link_gbps = 0;      // 1e9 bytes/s: disk reads; copies to a device with memory of its own
  double memory_gbps = 0;    // 1e9 bytes/s of weights, canonical kernel, one token row
  double matmul_gflops =
      0;  // 1e9 flop/s (a multiply and an add are two), canonical kernel, 64 rows
  uint64_t free_memory_bytes = 0;         // of fast memory, when measured
  std::vector<HostRate> host_rates = {};  // empty without a device that has memory of its own
  int32_t host_threads = 0;               // that the rates are of; 0: not known
  double shared_link_gbps = 0;            // of the link while the host multiplies
};

MachineProfile parse_machine_profile(std::string_view json_text, std::string_view where);
std::string machine_profile_to_json(const MachineProfile& profile);

/// The same machine with so many host threads (from 0): rates in proportion to threads, too low
/// where memory bounds them; not above those measured. Without threads there are no rates; where
/// the profile does not say how many were measured, they stay. The link's rate beside them stays.
MachineProfile with_host_threads(MachineProfile profile, int threads);

/// The rate of the least measured tokens that are not below these; 0 if there is none.
double host_gbps(const MachineProfile& profile, CodecId codec, int64_t tokens);

}  // namespace headrace
