#include <atomic>
#include <thread>

#include "kernels/cpu/cpu_kernels.h"
#include "tests/kernels/kernel_cases.h"

namespace headrace::testing {
namespace {

constexpr uint32_t kNumber = 0x80000007;

// Every word counts, wherever it is; nothing beyond them is touched.
TEST(TakeWords, GivesBitsAndSeesEveryWordOfAnotherNumber) {
  constexpr uint32_t kUntouched = 0xabababab;
  for (const CpuIsa isa : isas_here()) {
    const cpu::CpuKernels* const kernels = cpu::kernels_for(isa);
    for (size_t count = 0; count < 70; ++count) {
      std::vector<HostWord> words(1);  // so that vectors begin at odd places
      for (size_t i = 0; i < count; ++i) {
        words.push_back({.bits = static_cast<uint32_t>(i * 2654435761u), .number = kNumber});
      }
      words.shrink_to_fit();
      HostWord* const from = words.data() + 1;
      std::vector<uint32_t> bits(count + 2, kUntouched);
      EXPECT_TRUE(kernels->take_words(from, count, kNumber, bits.data() + 1)) << count;
      for (size_t i = 0; i < count; ++i) EXPECT_EQ(bits[i + 1], from[i].bits);
      EXPECT_EQ(bits.front(), kUntouched);
      EXPECT_EQ(bits.back(), kUntouched);
      for (size_t i = 0; i < count; ++i) {
        for (const uint32_t flipped : {1u, 0x100u, 0x10000u, 0x80000000u}) {
          const HostWord other =
              std::exchange(from[i], {.bits = kNumber, .number = kNumber ^ flipped});
          EXPECT_FALSE(kernels->take_words(from, count, kNumber, bits.data() + 1))
              << kernels->lanes << " lanes, " << i << " of " << count;
          from[i] = other;
        }
      }
    }
  }
}

// Bits and number are of one moment, while another writes.
TEST(TakeWords, WhoSeesTheNumberHasTheBits) {
  constexpr size_t kCount = 64;
  constexpr uint32_t kNumbers = 20000;
  const auto bits_of = [](uint32_t number) { return number * 2654435761u; };
  for (const CpuIsa isa : isas_here()) {
    const cpu::CpuKernels* const kernels = cpu::kernels_for(isa);
    std::vector<HostWord> words(kCount);
    std::atomic<uint32_t> seen{0};
    std::thread writer([&] {
      for (uint32_t number = 1; number <= kNumbers; ++number) {
        for (HostWord& word : words) {
          std::atomic_ref(word).store({.bits = bits_of(number), .number = number},
                                      std::memory_order_relaxed);
        }
        while (seen.load() != number) std::this_thread::yield();
      }
    });
    std::vector<uint32_t> bits(kCount);
    size_t wrong = 0;
    for (uint32_t number = 1; number <= kNumbers; ++number) {
      while (!kernels->take_words(words.data(), kCount, number, bits.data())) {
        std::this_thread::yield();
      }
      for (const uint32_t of_word : bits) wrong += of_word != bits_of(number) ? 1 : 0;
      seen.store(number);
    }
    writer.join();
    EXPECT_EQ(wrong, 0u) << kernels->lanes;
  }
}

}  // namespace
}  // namespace headrace::testing
