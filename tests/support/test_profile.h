#pragma once

#include <fstream>
#include <string>

namespace headrace::testing {

/// Writes a machine profile to `path`, so that nothing is measured; returns `path`.
inline std::string write_test_profile(const std::string& path) {
  std::ofstream(path) << R"({"machine": "test", "threads": 1, "link_gbps": 1.0, "memory_gbps": 10.0,
             "matmul_gflops": 10.0, "free_memory_bytes": 1000000000})";
  return path;
}

}  // namespace headrace::testing
