#include "kernels/cpu/cpu_kernels.h"
#include "tests/kernels/kernel_cases.h"

namespace headrace::testing {
namespace {

/// The tables of the instruction sets that this machine can run.
std::vector<const cpu::CpuKernels*> kernels_here() {
  std::vector<const cpu::CpuKernels*> tables;
  for (const CpuIsa isa : isas_here()) {
    tables.push_back(isa == CpuIsa::kAvx512 ? cpu::avx512_kernels()
                     : isa == CpuIsa::kAvx2 ? cpu::avx2_kernels()
                                            : cpu::portable_kernels());
  }
  return tables;
}

// Every word counts, wherever it is.
TEST(TakeWords, GivesBitsAndSeesEveryWordOfAnotherNumber) {
  constexpr uint32_t kNumber = 0x80000007;
  constexpr uint32_t kUntouched = 0xabababab;
  for (const cpu::CpuKernels* kernels : kernels_here()) {
    for (size_t count = 0; count < 40; ++count) {
      std::vector<HostWord> words;
      for (size_t i = 0; i < count; ++i) {
        words.push_back({.bits = static_cast<uint32_t>(i * 2654435761u), .number = kNumber});
      }
      words.push_back({.bits = 1, .number = 0});  // is not asked for
      std::vector<uint32_t> bits(count + 1, kUntouched);
      EXPECT_TRUE(kernels->take_words(words.data(), count, kNumber, bits.data())) << count;
      for (size_t i = 0; i < count; ++i) EXPECT_EQ(bits[i], words[i].bits);
      EXPECT_EQ(bits[count], kUntouched);
      for (size_t i = 0; i < count; ++i) {
        const HostWord other = std::exchange(words[i], {.bits = kNumber, .number = kNumber - 1});
        EXPECT_FALSE(kernels->take_words(words.data(), count, kNumber, bits.data()))
            << kernels->lanes << " lanes, " << i << " of " << count;
        words[i] = other;
      }
    }
  }
}

}  // namespace
}  // namespace headrace::testing
