#pragma once

#include <cstdlib>
#include <string>

#include <gtest/gtest.h>

#include "tensorrt_llm/executor/executor.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/tiny_engine.h"

namespace headrace::testing {

/// A tiny engine, the same for all tests of a program. The machine's profile, which clients cannot
/// name, is cached beside it.
class CompatTest : public ::testing::Test {
 protected:
  static constexpr int32_t kVocab = 1003;

  static const std::string& engine() {
    static const TemporaryDirectory directory;
    static const std::string path = [] {
      setenv("XDG_CACHE_HOME", (directory / "cache").c_str(), 1);
      return make_tiny_engine({}, directory / "engine");
    }();
    return path;
  }
};

}  // namespace headrace::testing
