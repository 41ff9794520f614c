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

CodecId read_codec(const nlohmann::json& json, std::string_view where) {
  const auto found = json.find("codec");
  const std::optional<CodecId> codec = found != json.end() && found->is_string()
                                           ? codec_of_name(found->get<std::string>())
                                           : std::nullopt;
  if (codec) return *codec;
  fail(ErrorCode::kCorrupt, "[profile] {}: a host rate's 'codec' must be raw, e3 or e4", where);
}

/// What host threads do, in profiles of devices that have memory of their own.
void read_host_rates(const nlohmann::json& json, std::string_view where, MachineProfile& profile) {
  constexpr size_t kMostRates = 64;
  constexpr int kMostTokens = 1 << 20;
  constexpr uint64_t kMostThreads = 1 << 16;
  const auto rates = json.find("host_rates");
  if (rates == json.end()) return;
  if (!rates->is_array() || rates->size() > kMostRates) {
    fail(ErrorCode::kCorrupt, "[profile] {}: 'host_rates' must be a list of at most {}", where,
         kMostRates);
  }
  for (const nlohmann::json& rate : *rates) {
    const auto tokens = rate.is_object() ? rate.find("tokens") : rate.end();
    if (tokens == rate.end() || !tokens->is_number_unsigned() || tokens->get<uint64_t>() < 1 ||
        tokens->get<uint64_t>() > kMostTokens) {
      fail(ErrorCode::kCorrupt, "[profile] {}: a host rate's 'tokens' must be 1 to {}", where,
           kMostTokens);
    }
    profile.host_rates.push_back({.tokens = tokens->get<int64_t>(),
                                  .codec = read_codec(rate, where),
                                  .gbps = read_rate(rate, "gbps", where)});
  }
  profile.shared_link_gbps = read_rate(json, "shared_link_gbps", where);
  const auto threads = json.find("host_threads");
  if (threads == json.end()) return;
  if (!threads->is_number_unsigned() || threads->get<uint64_t>() > kMostThreads) {
    fail(ErrorCode::kCorrupt, "[profile] {}: 'host_threads' must be 0 to {}", where, kMostThreads);
  }
  profile.host_threads = threads->get<int32_t>();
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
  read_host_rates(json, where, profile);
  return profile;
}

std::string machine_profile_to_json(const MachineProfile& profile) {
  nlohmann::ordered_json json = {{"machine", profile.machine},
                                 {"threads", profile.threads},
                                 {"link_gbps", profile.link_gbps},
                                 {"memory_gbps", profile.memory_gbps},
                                 {"matmul_gflops", profile.matmul_gflops},
                                 {"free_memory_bytes", profile.free_memory_bytes}};
  if (!profile.host_rates.empty()) {
    json["host_threads"] = profile.host_threads;
    json["shared_link_gbps"] = profile.shared_link_gbps;
    for (const HostRate& rate : profile.host_rates) {
      json["host_rates"].push_back(
          {{"tokens", rate.tokens}, {"codec", codec_name(rate.codec)}, {"gbps", rate.gbps}});
    }
  }
  // A machine's name may come from anywhere; bytes that are not UTF-8 must not throw.
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

MachineProfile with_host_threads(MachineProfile profile, int threads) {
  if (threads == 0) profile.host_rates.clear();
  if (threads >= profile.host_threads) return profile;
  for (HostRate& rate : profile.host_rates) {
    rate.gbps *= static_cast<double>(threads) / profile.host_threads;
  }
  profile.host_threads = threads;
  return profile;
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
