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

  static bool engine_searches_with_beams() {
    namespace tle = tensorrt_llm::executor;
    tle::Executor executor(engine(), tle::ModelType::kDECODER_ONLY, tle::ExecutorConfig(2));
    const auto id = executor.enqueueRequest(tle::Request({1}, 1, false, tle::SamplingConfig(2)));
    const auto response = executor.awaitResponses(id).at(0);
    return !response.hasError() ||
           response.getErrorMsg().find("beam search is not there yet") == std::string::npos;
  }
};

}  // namespace headrace::testing
