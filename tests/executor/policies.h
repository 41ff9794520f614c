#pragma once

#include <string>

#include <gtest/gtest.h>

#include "headrace/executor_options.h"

namespace headrace::testing {

/// Both policies, for INSTANTIATE_TEST_SUITE_P.
inline auto all_policies() {
  return ::testing::Values(CapacityPolicy::kGuaranteedNoEvict, CapacityPolicy::kMaxUtilization);
}

inline std::string policy_name(const ::testing::TestParamInfo<CapacityPolicy>& info) {
  return info.param == CapacityPolicy::kGuaranteedNoEvict ? "guaranteed" : "preempting";
}

}  // namespace headrace::testing
