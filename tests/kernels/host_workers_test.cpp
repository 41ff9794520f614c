#include "kernels/host_workers.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <csignal>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/thread_pool.h"
#include "tests/kernels/kernel_cases.h"
#include "tests/kernels/matmul_problem.h"
#include "tests/support/busy_processor.h"

namespace headrace::testing {
namespace {

constexpr int64_t kMaxK = 1600;

void wait_done(HostMeetings& meetings, uint32_t number) {
  while (std::atomic_ref(meetings.done).load() != number) std::this_thread::yield();
}

/// A problem, and the product that a host computes of it.
struct Shared {
  Shared(const MatmulCase& shape, uint32_t seed, int64_t cut)
      : problem(shape, Data::kWild, seed),
        expected(problem.expected()),
        x(static_cast<size_t>(shape.tokens) * words_of_x(shape.k, shape.dtype)),
        out(expected.size()),
        runs{problem.weights().run(0, 0, cut), problem.weights().run(0, cut, shape.rows - cut)},
        product{.dtype = shape.dtype,
                .tokens = shape.tokens,
                .k = shape.k,
                .x = x.data(),
                .runs = runs,
                .out = out.data()} {}

  void give(uint32_t number) const { give_x(product, number, problem.x().data()); }

  void give_first_word(uint32_t number) {
    HostWord word = {.number = number};
    std::memcpy(&word.bits, problem.x().data(), sizeof(word.bits));
    std::atomic_ref(x[0]).store(word);
  }

  /// The values, which must be of product `number`.
  std::vector<float> values(uint32_t number) const {
    std::vector<float> values;
    for (const HostWord& value : out) {
      values.push_back(std::bit_cast<float>(value.bits));
      EXPECT_EQ(value.number, number);
    }
    return values;
  }

  MatmulProblem problem;
  std::vector<float> expected;
  std::vector<HostWord> x;
  std::vector<HostWord> out;
  std::vector<WeightRun> runs;
  HostProduct product;
};

TEST(HostWorkers, ProductsHaveTheReferenceBits) {
  for (const int threads : {1, 3}) {
    HostMeetings meetings;
    const auto workers = make_host_workers(threads, kMaxK, meetings);
    EXPECT_EQ(workers->threads(), threads);
    uint32_t number = 0;
    for (const DType dtype : kAllDTypes) {
      for (const int64_t tokens : {1, 2, 5, 8}) {
        for (const int64_t k : {72, 99, 260, 1599, 1600}) {
          Shared shared({.dtype = dtype, .rows = 333, .k = k, .tokens = tokens},
                        static_cast<uint32_t>(k), 64);
          number = workers->enqueue(shared.product);
          shared.give(number);
          wait_done(meetings, number);
          EXPECT_TRUE(equal_bits(shared.expected, shared.values(number)))
              << dtype_name(dtype) << " " << k;
          workers->abandon();  // `shared` goes
        }
      }
    }
    EXPECT_EQ(workers->work().products, number);
    EXPECT_GT(workers->work().weight_bytes, 0u);
  }
}

TEST(HostWorkers, CodedRowsHaveTheReferenceBits) {
  HostMeetings meetings;
  const auto workers = make_host_workers(2, kMaxK, meetings);
  for (const auto& [codec, dtype] : kCodecs) {
    for (const int64_t tokens : {1, 8}) {
      Shared shared({.dtype = dtype, .rows = 300, .k = 1100, .tokens = tokens, .codec = codec}, 3,
                    128);
      const uint32_t number = workers->enqueue(shared.product);
      shared.give(number);
      wait_done(meetings, number);
      EXPECT_TRUE(equal_bits(shared.expected, shared.values(number))) << codec_name(codec);
      workers->abandon();  // `shared` goes
    }
  }
}

// A whole pass is enqueued before the device comes to its products.
TEST(HostWorkers, ManyProductsWaitForTheirTurn) {
  HostMeetings meetings;
  const auto workers = make_host_workers(4, kMaxK, meetings);
  std::vector<std::unique_ptr<Shared>> products;
  for (uint32_t i = 0; i < 60; ++i) {
    products.push_back(std::make_unique<Shared>(
        MatmulCase{.dtype = DType::kBFloat16, .rows = 40 + i, .k = 64 + 7 * i, .tokens = 1 + i % 8},
        i, 16));
    EXPECT_EQ(workers->enqueue(products.back()->product), i + 1);
  }
  std::thread device([&] {
    for (uint32_t number = 1; number <= products.size(); ++number) {
      products[number - 1]->give(number);
      wait_done(meetings, number);
    }
  });
  device.join();
  for (uint32_t i = 0; i < products.size(); ++i) {
    EXPECT_TRUE(equal_bits(products[i]->expected, products[i]->values(i + 1)));
  }
  workers->abandon();
}

// Threads take pieces before there is x, and fetch them into their caches.
TEST(HostWorkers, WaitingForXChangesNoBit) {
  Shared shared({.dtype = DType::kBFloat16, .rows = 1700, .k = 1600, .tokens = 2}, 1, 700);
  HostMeetings meetings;
  const auto workers = make_host_workers(2, kMaxK, meetings);
  for (const int wait_ms : {0, 1, 20}) {
    const uint32_t number = workers->enqueue(shared.product);
    std::this_thread::sleep_for(std::chrono::milliseconds(wait_ms));
    shared.give(number);
    wait_done(meetings, number);
    EXPECT_TRUE(equal_bits(shared.expected, shared.values(number))) << wait_ms;
  }
  workers->enqueue(shared.product);
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  workers->abandon();
  EXPECT_EQ(meetings.done, 4u);
}

// The caller takes pieces while a thread has some, too, and waits for x.
TEST(HostWorkers, WhoWaitsForTheDeviceMultiplies) {
  Shared shared({.dtype = DType::kFloat16, .rows = 1700, .k = 1600, .tokens = 1}, 1, 700);
  HostMeetings meetings;
  const auto workers = make_host_workers(1, kMaxK, meetings);
  for (uint32_t i = 1; i <= 3; ++i) {
    const uint32_t number = workers->enqueue(shared.product);
    int asked = 0;
    workers->lend_a_hand([&] {
      if (++asked == 3) shared.give(number);
      return false;
    });
    ASSERT_GE(asked, 3);
    wait_done(meetings, number);
    EXPECT_TRUE(equal_bits(shared.expected, shared.values(number))) << i;
  }
}

// It comes to the end of its queue between a look at x and the next.
TEST(HostWorkers, WhatCameAtLastIsNotGivenUp) {
  Shared shared({.dtype = DType::kFloat16, .rows = 1700, .k = 1600, .tokens = 1}, 1, 700);
  HostMeetings meetings;
  const auto workers = make_host_workers(1, kMaxK, meetings);
  for (const bool some_words : {false, true}) {
    const uint32_t number = workers->enqueue(shared.product);
    if (some_words) shared.give_first_word(number);
    bool asked = false;
    workers->lend_a_hand([&] {
      if (!std::exchange(asked, true)) shared.give(number);
      return true;
    });
    ASSERT_TRUE(asked);
    wait_done(meetings, number);
    EXPECT_TRUE(equal_bits(shared.expected, shared.values(number))) << some_words;
  }
}

// A device that has failed leaves x out, or some words of it.
TEST(HostWorkers, WhoWaitsForTheDeviceInVainGivesUp) {
  for (const bool some_words : {false, true}) {
    Shared shared({.dtype = DType::kFloat16, .rows = 1700, .k = 1600, .tokens = 2}, 1, 700);
    HostMeetings meetings;
    const auto workers = make_host_workers(1, kMaxK, meetings);
    workers->enqueue(shared.product);
    workers->enqueue(shared.product);
    if (some_words) shared.give_first_word(1);
    int asked = 0;
    workers->lend_a_hand([&] { return ++asked == 5; });
    ASSERT_GE(asked, 5);
    wait_done(meetings, 2);
    workers->abandon();
  }
}

// One thread shares its core with threads that want all of it, the others do not.
TEST(HostWorkers, ASlowThreadChangesNoBit) {
  const std::vector<int> processors = usable_processors();
  if (processors.size() < 2) GTEST_SKIP() << "one processor only: every thread is as slow";
  Shared shared({.dtype = DType::kFloat16, .rows = 1700, .k = 1600, .tokens = 1}, 1, 700);
  HostMeetings meetings;
  const auto workers = make_host_workers(2, kMaxK, meetings);
  const BusyProcessor busy(processors[1], 3);
  for (int i = 0; i < 10; ++i) {
    const uint32_t number = workers->enqueue(shared.product);
    shared.give(number);
    wait_done(meetings, number);
    EXPECT_TRUE(equal_bits(shared.expected, shared.values(number)));
  }
}

/// Holds a thread of this process where it is, by a signal whose handler does not return.
class HeldThread {
 public:
  explicit HeldThread(int tid) {
    held_.store(false);
    release_.store(false);
    struct sigaction action = {};
    action.sa_handler = [](int) {
      held_.store(true);
      while (!release_.load()) {
        const timespec moment = {.tv_sec = 0, .tv_nsec = 100'000};
        nanosleep(&moment, nullptr);
      }
      held_.store(false);
    };
    sigaction(SIGUSR1, &action, &before_);
    syscall(SYS_tgkill, getpid(), tid, SIGUSR1);
    while (!held_.load()) std::this_thread::yield();
  }
  ~HeldThread() {
    release_.store(true);
    while (held_.load()) std::this_thread::yield();
    sigaction(SIGUSR1, &before_, nullptr);
  }

 private:
  static inline std::atomic<bool> held_;
  static inline std::atomic<bool> release_;
  struct sigaction before_ = {};
};

std::vector<int> thread_ids() {
  std::vector<int> ids;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/task")) {
    ids.push_back(std::stoi(entry.path().filename()));
  }
  return ids;
}

/// The threads of this process that are not among `before`.
std::vector<int> threads_since(const std::vector<int>& before) {
  std::vector<int> ids = thread_ids();
  std::erase_if(ids, [&](int id) { return std::ranges::count(before, id) != 0; });
  return ids;
}

// What it has taken, the others multiply, too; when it comes back, products have gone on.
TEST(HostWorkers, NobodyWaitsForAThreadThatIsHeldUp) {
  const std::vector<int> before = thread_ids();
  Shared shared({.dtype = DType::kBFloat16, .rows = 1700, .k = 1600, .tokens = 2}, 1, 700);
  HostMeetings meetings;
  const auto workers = make_host_workers(3, kMaxK, meetings);
  const std::vector<int> threads = threads_since(before);
  ASSERT_EQ(threads.size(), 3u);
  for (const int held : threads) {
    uint32_t number = workers->enqueue(shared.product);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));  // all have taken pieces
    {
      const HeldThread hold(held);
      for (int i = 0; i < 5; ++i) {
        shared.give(number);
        wait_done(meetings, number);
        EXPECT_TRUE(equal_bits(shared.expected, shared.values(number)));
        number = workers->enqueue(shared.product);
      }
    }
    shared.give(number);
    wait_done(meetings, number);
    EXPECT_TRUE(equal_bits(shared.expected, shared.values(number)));
  }
}

TEST(HostWorkers, WhoLendsAHandDoesAllOfItIfItMust) {
  const std::vector<int> before = thread_ids();
  HostMeetings meetings;
  const auto workers = make_host_workers(1, kMaxK, meetings);
  const std::vector<int> threads = threads_since(before);
  ASSERT_EQ(threads.size(), 1u);
  std::vector<std::unique_ptr<Shared>> products;
  for (uint32_t i = 0; i < 40; ++i) {
    products.push_back(std::make_unique<Shared>(
        MatmulCase{.dtype = DType::kFloat16, .rows = 60 + i, .k = 64 + 7 * i, .tokens = 1 + i % 8},
        i, 16));
    workers->enqueue(products.back()->product);
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(2));  // it has taken pieces
  {
    const HeldThread hold(threads[0]);
    std::atomic<bool> lent{false};
    std::thread device([&] {
      for (uint32_t number = 1; number <= products.size(); ++number) {
        products[number - 1]->give(number);
        while (std::atomic_ref(meetings.done).load() != number && !lent) std::this_thread::yield();
      }
    });
    workers->lend_a_hand([] { return false; });
    lent = true;
    device.join();
    EXPECT_EQ(std::atomic_ref(meetings.done).load(), products.size());
    workers->lend_a_hand([] { return false; });  // nothing is left
  }
  wait_done(meetings, static_cast<uint32_t>(products.size()));
  for (uint32_t i = 0; i < products.size(); ++i) {
    EXPECT_TRUE(equal_bits(products[i]->expected, products[i]->values(i + 1)));
  }
  workers->abandon();
}

// By that the shares are corrected.
TEST(HostWorkers, TellWhoWaitedForWhom) {
  Shared shared({.dtype = DType::kFloat16, .rows = 50, .k = 99, .tokens = 1}, 1, 20);
  HostMeetings meetings;
  const auto workers = make_host_workers(2, kMaxK, meetings);
  constexpr int64_t kPauseNs = 20'000'000;
  const uint32_t first = workers->enqueue(shared.product);
  const uint32_t second = workers->enqueue(shared.product);
  std::atomic_ref(meetings.arrived).store(first);
  shared.give(first);
  wait_done(meetings, first);
  EXPECT_EQ(workers->work().waited_for, 1u);
  EXPECT_EQ(workers->work().waited_ns, 0);
  std::this_thread::sleep_for(std::chrono::nanoseconds(kPauseNs));
  shared.give(second);  // the device is late, and will be at the end, too
  wait_done(meetings, second);
  EXPECT_EQ(workers->work().waited_for, 1u);
  EXPECT_GE(workers->work().waited_ns, kPauseNs / 2);
  const int64_t waited_ns = workers->work().waited_ns;
  std::this_thread::sleep_for(std::chrono::nanoseconds(kPauseNs));
  const uint32_t third = workers->enqueue(shared.product);  // of another pass
  shared.give(third);
  wait_done(meetings, third);
  EXPECT_EQ(workers->work().waited_ns, waited_ns);
  workers->abandon();
}

// A product of one piece: the others have not begun it.
TEST(HostWorkers, NobodyWaitsForTheOnlyThreadOfAProduct) {
  const std::vector<int> before = thread_ids();
  Shared shared({.dtype = DType::kFloat16, .rows = 4, .k = 99, .tokens = 1}, 1, 2);
  HostMeetings meetings;
  const auto workers = make_host_workers(2, kMaxK, meetings);
  const std::vector<int> threads = threads_since(before);
  ASSERT_EQ(threads.size(), 2u);
  for (const int held : threads) {
    const uint32_t number = workers->enqueue(shared.product);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));  // one has taken it
    const HeldThread hold(held);
    shared.give(number);
    wait_done(meetings, number);
    EXPECT_TRUE(equal_bits(shared.expected, shared.values(number)));
  }
}

TEST(HostWorkers, AbandonedProductsEnd) {
  Shared shared({.dtype = DType::kFloat16, .rows = 50, .k = 99, .tokens = 1}, 1, 20);
  HostMeetings meetings;
  const auto workers = make_host_workers(3, kMaxK, meetings);
  for (int i = 0; i < 5; ++i) workers->enqueue(shared.product);
  workers->abandon();
  EXPECT_EQ(meetings.done, 5u);
  const uint32_t number = workers->enqueue(shared.product);
  shared.give(number);
  wait_done(meetings, number);
  EXPECT_TRUE(equal_bits(shared.expected, shared.values(number)));
}

// A long-lived process comes there: a pass of 32 layers takes 128 numbers.
TEST(HostWorkers, NumbersMayPassTheirSignAndWrap) {
  struct Case {
    uint32_t last;  // product before
    int products;   // more than the queue holds where they wrap: no slot is new then
  };
  Shared shared({.dtype = DType::kFloat16, .rows = 50, .k = 99, .tokens = 1}, 1, 20);
  for (const auto& [last, products] : {Case{0x7fff'fffc, 8}, Case{0xffff'ffff - 1100, 1110}}) {
    HostMeetings meetings = {.progress = {.bits = 50, .number = last}, .done = last};
    const auto workers = make_host_workers(2, kMaxK, meetings);
    uint32_t number = last;
    for (int i = 0; i < products; ++i) {
      EXPECT_EQ(workers->enqueue(shared.product), ++number);
      shared.give(number);
      wait_done(meetings, number);
      ASSERT_TRUE(equal_bits(shared.expected, shared.values(number))) << number;
      ASSERT_EQ(std::atomic_ref(meetings.progress).load().number, number);
    }
    for (int i = 0; i < 3; ++i) workers->enqueue(shared.product);
    workers->abandon();
    EXPECT_EQ(meetings.done, number + 3);
  }
}

TEST(HostWorkers, EndWhileProductsWait) {
  HostMeetings meetings;
  Shared shared({.dtype = DType::kFloat16, .rows = 50, .k = 99, .tokens = 1}, 1, 20);
  const auto workers = make_host_workers(3, kMaxK, meetings);
  workers->enqueue(shared.product);
}

TEST(HostWorkers, SleepWhenNothingIsToDo) {
  HostMeetings meetings;
  const auto workers = make_host_workers(2, kMaxK, meetings);
  std::this_thread::sleep_for(std::chrono::milliseconds(200));  // longer than they poll
  const std::clock_t before = std::clock();
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  const double seconds = static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC;
  EXPECT_LT(seconds, 0.05);
}

}  // namespace
}  // namespace headrace::testing
