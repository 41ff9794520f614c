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

TEST(MachineProfileTest, HostRatesSurviveToo) {
  const MachineProfile profile{.link_gbps = 50,
                               .memory_gbps = 4000,
                               .matmul_gflops = 1e5,
                               .host_rates = {{.tokens = 1, .codec = CodecId::kRaw, .gbps = 100},
                                              {.tokens = 8, .codec = CodecId::kE3, .gbps = 45.5},
                                              {.tokens = 2, .codec = CodecId::kE3, .gbps = 90}},
                               .host_threads = 15,
                               .shared_link_gbps = 47};
  const MachineProfile read = parse_machine_profile(machine_profile_to_json(profile), "here");
  EXPECT_EQ(read.host_threads, 15);
  EXPECT_EQ(read.shared_link_gbps, 47);
  ASSERT_EQ(read.host_rates.size(), 3u);
  EXPECT_EQ(read.host_rates[1].codec, CodecId::kE3);
  EXPECT_EQ(host_gbps(read, CodecId::kE3, 1), 90);  // the least measured that is no less
  EXPECT_EQ(host_gbps(read, CodecId::kE3, 3), 45.5);
  EXPECT_EQ(host_gbps(read, CodecId::kRaw, 2), 0);
}

TEST(MachineProfileTest, BadHostRatesAreErrors) {
  const std::string head =
      R"({"memory_gbps": 1, "matmul_gflops": 1, "link_gbps": 1, "shared_link_gbps": 1, "host_rates": )";
  std::string many = "[";
  for (int i = 0; i < 65; ++i) many += R"({"tokens": 1, "codec": "raw", "gbps": 1},)";
  many.back() = ']';
  for (const std::string& rates :
       {std::string("7"), std::string("[1]"), std::string("[null]"), many,
        std::string(R"([{"tokens": 0, "codec": "raw", "gbps": 1}])"),
        std::string(R"([{"tokens": -1, "codec": "raw", "gbps": 1}])"),
        std::string(R"([{"tokens": 1, "codec": "zip", "gbps": 1}])"),
        std::string(R"([{"tokens": 1, "codec": 3, "gbps": 1}])"),
        std::string(R"([{"tokens": 1, "codec": "e3", "gbps": -4}])"),
        std::string(R"([{"tokens": 1, "codec": "e3"}])")}) {
    expect_error(ErrorCode::kCorrupt, "p.json",
                 [&] { parse_machine_profile(head + rates + "}", "p.json"); });
  }
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

TEST(MachineProfileTest, BadHostThreadsAreAnError) {
  const std::string head =
      R"({"link_gbps": 1, "memory_gbps": 1, "matmul_gflops": 1, "shared_link_gbps": 1,
          "host_rates": [{"tokens": 1, "codec": "raw", "gbps": 1}], "host_threads": )";
  EXPECT_EQ(parse_machine_profile(head + "65536}", "p.json").host_threads, 65536);
  for (const char* threads : {"-1", "65537", "1e9", "2.5", "\"15\"", "null", "[]"}) {
    expect_error(ErrorCode::kCorrupt, "host_threads",
                 [&] { parse_machine_profile(head + threads + "}", "p.json"); });
  }
}

TEST(MachineProfileTest, FewerHostThreadsMultiplyLess) {
  MachineProfile measured;
  measured.host_threads = 15;
  measured.host_rates = {{.tokens = 1, .codec = CodecId::kE3, .gbps = 150}};
  EXPECT_DOUBLE_EQ(host_gbps(with_host_threads(measured, 3), CodecId::kE3, 1), 30);
  EXPECT_EQ(with_host_threads(measured, 3).host_threads, 3);
  for (const int more : {15, 16, 1024}) {
    EXPECT_EQ(host_gbps(with_host_threads(measured, more), CodecId::kE3, 1), 150);
  }
  EXPECT_TRUE(with_host_threads(measured, 0).host_rates.empty());
  measured.host_threads = 0;  // a file that does not say
  EXPECT_TRUE(with_host_threads(measured, 0).host_rates.empty());
  EXPECT_EQ(host_gbps(with_host_threads(measured, 3), CodecId::kE3, 1), 150);
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
