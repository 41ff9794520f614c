#include "headrace/peak_memory.h"

#include <fstream>
#include <string>

namespace headrace::app {

void reset_peak_memory() {
  std::ofstream file("/proc/self/clear_refs");
  file << "5";  // proc(5): sets the peak to the current value
}

uint64_t peak_memory_bytes() {
  std::ifstream file("/proc/self/status");
  std::string word;
  while (file >> word) {
    uint64_t kilobytes = 0;
    if (word == "VmHWM:" && file >> kilobytes) return kilobytes << 10;
  }
  return 0;
}

}  // namespace headrace::app
