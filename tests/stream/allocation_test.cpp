// Counts allocations, so that the per-pass path stays free of them.

#include <atomic>
#include <cstdlib>
#include <new>

#include <gtest/gtest.h>

#include "stream/disk_link.h"
#include "tests/stream/run_pass.h"
#include "tests/support/host_backend.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/test_context.h"

namespace {

std::atomic<int64_t> allocations{0};

}  // namespace

// Out of line: inlined, g++ takes malloc() and free() for a mismatched pair.
[[gnu::noinline]] void* operator new(size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(size_t size, const std::nothrow_t&) noexcept {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return std::malloc(size);
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace headrace {
namespace {

using testing::make_weights;

TEST(AllocationTest, PassesAllocateNothing) {
  const testing::TemporaryDirectory folder;
  const testing::MadeWeights made = make_weights({.layers = 4});
  made.write(folder / "weights");
  const auto groups = static_cast<uint32_t>(made.manifest.groups().size());
  for (const IoMode io : {IoMode::kAuto, IoMode::kPread}) {
    testing::HostBackend backend;
    testing::TestContext test;
    const Plan plan =
        make_plan(made.manifest, {},
                  {.budget = {.percent = 0.3}, .request_bytes = 16384, .ring_requests = 4});
    WeightStream stream(made.manifest, plan, open_disk_link(folder / "weights", 8, {.io = io}),
                        "weights", {.verify = VerifyMode::kAlways}, backend, test.context);
    stream.load_resident();
    const auto run_pass = [&](bool with_logits) {
      stream.begin_pass(with_logits);
      for (uint32_t g = 0; g < groups - (with_logits ? 0 : 1); ++g) {
        WeightFeed& feed = stream.group(g);
        for (Lease lease; feed.next(lease);) {
        }
      }
      stream.end_pass();
    };
    run_pass(true);
    const int64_t before = allocations.load();
    run_pass(true);
    run_pass(false);
    run_pass(true);
    EXPECT_EQ(allocations.load() - before, 0);
    EXPECT_GT(stream.counters().requests, 0);
  }
}

}  // namespace
}  // namespace headrace
