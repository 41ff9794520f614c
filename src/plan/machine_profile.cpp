#include "plan/machine_profile.h"

#include <cmath>

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace headrace {
namespace {

constexpr double kMostGiga = 1e9;  // no machine reads or multiplies faster than 10^18 a second
constexpr const char* kOldLinkKey = "disk_gbps";  // of profiles users wrote before the rename

double read_rate(const nlohmann::json& json, const char* key, std::string_view where) {
  const auto found = json.find(key);
  if (found == json.end() || !found->is_number()) {
    fail(ErrorCode::kCorrupt, "[profile] {}: '{}' must be a number", where, key);
  }
  const auto value = found->get<double>();
  if (!(value > 0 && value <= kMostGiga)) {
    fail(ErrorCode::kCorrupt, "[profile] {}: '{}' is {}, it must be above 0 and at most {:.0e}",
         where, key, value, kMostGiga);
  }
  return value;
}

}  // namespace

MachineProfile parse_machine_profile(std::string_view json_text, std::string_view where) {
  const nlohmann::json json = nlohmann::json::parse(json_text, nullptr, false);
  if (!json.is_object()) {
    fail(ErrorCode::kCorrupt, "[profile] {} is not a JSON object: 'headrace plan --json' shows one",
         where);
  }
  MachineProfile profile;
  profile.link_gbps = read_rate(
      json, json.contains("link_gbps") || !json.contains(kOldLinkKey) ? "link_gbps" : kOldLinkKey,
      where);
  profile.memory_gbps = read_rate(json, "memory_gbps", where);
  profile.matmul_gflops = read_rate(json, "matmul_gflops", where);
  if (const auto machine = json.find("machine"); machine != json.end() && machine->is_string()) {
    profile.machine = machine->get<std::string>();
  }
  if (const auto threads = json.find("threads");
      threads != json.end() && threads->is_number_unsigned()) {
    profile.threads = static_cast<int32_t>(std::min<uint64_t>(threads->get<uint64_t>(), 1 << 16));
  }
  if (const auto memory = json.find("free_memory_bytes");
      memory != json.end() && memory->is_number_unsigned()) {
    profile.free_memory_bytes = memory->get<uint64_t>();
  }
  return profile;
}

std::string machine_profile_to_json(const MachineProfile& profile) {
  const nlohmann::ordered_json json = {{"machine", profile.machine},
                                       {"threads", profile.threads},
                                       {"link_gbps", profile.link_gbps},
                                       {"memory_gbps", profile.memory_gbps},
                                       {"matmul_gflops", profile.matmul_gflops},
                                       {"free_memory_bytes", profile.free_memory_bytes}};
  // A machine's name may come from anywhere; bytes that are not UTF-8 must not throw.
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

double host_gbps(const MachineProfile& profile, CodecId codec, int64_t tokens) {
  const HostRate* best = nullptr;
  for (const HostRate& rate : profile.host_rates) {
    if (rate.codec != codec || rate.tokens < tokens) continue;
    if (best == nullptr || rate.tokens < best->tokens) best = &rate;
  }
  return best == nullptr ? 0 : best->gbps;
}

}  // namespace headrace
