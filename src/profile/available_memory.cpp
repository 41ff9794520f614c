#include <algorithm>
#include <cstdint>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <utility>

#include "base/file.h"
#include "profile/measure.h"

namespace headrace {
namespace {

/// The number in a one-line file; nothing if there is none ("max", say).
std::optional<uint64_t> number_in(const std::string& path) {
  std::ifstream file(path);
  uint64_t value = 0;
  if (!(file >> value)) return std::nullopt;
  return value;
}

/// Page cache that counts as used but would make room.
uint64_t reclaimable_bytes(const std::string& folder) {
  uint64_t bytes = 0;
  std::ifstream stat(join_path(folder, "memory.stat"));
  for (auto [name, value] = std::pair<std::string, uint64_t>(); stat >> name >> value;) {
    if (name == "inactive_file" || name == "active_file") bytes += value;
  }
  return bytes;
}

/// What a memory cgroup leaves, walking from the process's own up to the root of `mount`.
uint64_t cgroup_room(const std::string& mount, std::string group, const char* limit_name,
                     const char* usage_name) {
  uint64_t room = ~uint64_t{0};
  while (true) {
    const std::string folder = join_path(mount, group.empty() ? "" : group.substr(1));
    const auto limit = number_in(join_path(folder, limit_name));
    const auto usage = number_in(join_path(folder, usage_name));
    if (limit && usage) {
      const uint64_t used = *usage - std::min(*usage, reclaimable_bytes(folder));
      room = std::min(room, *limit > used ? *limit - used : 0);
    }
    const size_t slash = group.rfind('/');
    if (slash == std::string::npos || group == "/") return room;
    group.resize(slash);
  }
}

}  // namespace

uint64_t available_memory_bytes() {
  uint64_t available = ~uint64_t{0};
  std::ifstream info("/proc/meminfo");
  for (std::string line; std::getline(info, line);) {
    uint64_t kilobytes = 0;
    std::string name;
    if (line.starts_with("MemAvailable:") && std::istringstream(line) >> name >> kilobytes) {
      available = kilobytes * 1024;
    }
  }
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {  // "4:memory:/a" or, version 2, "0::/a"
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string group = line.substr(second + 1);
    if (controllers == "memory") {
      available =
          std::min(available, cgroup_room("/sys/fs/cgroup/memory", group, "memory.limit_in_bytes",
                                          "memory.usage_in_bytes"));
    } else if (controllers.empty()) {
      available =
          std::min(available, cgroup_room("/sys/fs/cgroup", group, "memory.max", "memory.current"));
    }
  }
  return available;
}

}  // namespace headrace
