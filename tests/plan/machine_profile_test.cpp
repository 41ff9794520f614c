#include "plan/machine_profile.h"

#include <gtest/gtest.h>

#include "tests/support/error_matchers.h"

namespace headrace {
namespace {

using testing::expect_error;

TEST(MachineProfileTest, SurvivesItsText) {
  const MachineProfile profile{.machine = "a \"machine\" \xff",
                               .threads = 2,
                               .link_gbps = 1.5,
                               .memory_gbps = 26.25,
                               .matmul_gflops = 40,
                               .free_memory_bytes = 1u << 30};
  const MachineProfile read = parse_machine_profile(machine_profile_to_json(profile), "here");
  EXPECT_EQ(read.machine, "a \"machine\" \xef\xbf\xbd");  // what is no UTF-8 is replaced
  EXPECT_EQ(read.threads, 2);
  EXPECT_EQ(read.link_gbps, 1.5);
  EXPECT_EQ(read.memory_gbps, 26.25);
  EXPECT_EQ(read.matmul_gflops, 40);
  EXPECT_EQ(read.free_memory_bytes, 1u << 30);
}

TEST(MachineProfileTest, BadTextIsAnError) {
  for (const char* text : {"", "[]", "{", "{}", "nonsense"}) {
    expect_error(ErrorCode::kCorrupt, "p.json", [&] { parse_machine_profile(text, "p.json"); });
  }
  for (const char* value : {"0", "-1", "1e300", "\"fast\"", "null", "[]"}) {
    const std::string text =
        std::string(R"({"memory_gbps": 1, "matmul_gflops": 1, "link_gbps": )") + value + "}";
    expect_error(ErrorCode::kCorrupt, "link_gbps", [&] { parse_machine_profile(text, "p.json"); });
  }
}

TEST(MachineProfileTest, ReadsTheOldNameOfTheLinkAndWritesTheNewOne) {
  const MachineProfile profile = parse_machine_profile(
      R"({"disk_gbps": 2.5, "memory_gbps": 30, "matmul_gflops": 50})", "p.json");
  EXPECT_EQ(profile.link_gbps, 2.5);
  const std::string text = machine_profile_to_json(profile);
  EXPECT_NE(text.find("\"link_gbps\""), std::string::npos);
  EXPECT_EQ(text.find("disk_gbps"), std::string::npos);
  expect_error(ErrorCode::kCorrupt, "disk_gbps", [&] {
    parse_machine_profile(R"({"disk_gbps": -1, "memory_gbps": 1, "matmul_gflops": 1})", "p.json");
  });
}

}  // namespace
}  // namespace headrace
