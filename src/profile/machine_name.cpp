#include "profile/machine_name.h"

#include <cstdint>
#include <cstdlib>
#include <fstream>

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/file.h"
#include "base/thread_pool.h"

namespace headrace {
namespace {

std::string processor_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    const size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown processor";
}

std::string disk_name(const Engine& engine) {
  if (engine.is_synthetic()) return "none, synthetic weights";
  struct stat info{};
  if (::stat(engine.weights_path().c_str(), &info) != 0) return "unknown";
  return fmt::format("{}:{}", major(info.st_dev), minor(info.st_dev));
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo).
uint64_t hash_text(const std::string& text) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : text) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  }
  return hash;
}

}  // namespace

std::string machine_name(const Engine& engine, const Backend& backend) {
  return fmt::format("{} x {}; {}; {}; disk {}", available_processors(), processor_name(),
                     backend.description(), dtype_name(engine.model().dtype), disk_name(engine));
}

std::string profile_cache_path(const std::string& machine_name) {
  const char* const cache = std::getenv("XDG_CACHE_HOME");
  const char* const home = std::getenv("HOME");
  std::string folder;
  if (cache != nullptr && cache[0] == '/') {
    folder = cache;
  } else if (home != nullptr && home[0] == '/') {
    folder = join_path(home, ".cache");
  } else {
    return "";
  }
  return join_path(folder, fmt::format("headrace/profile-3-{:016x}.json", hash_text(machine_name)));
}

}  // namespace headrace
