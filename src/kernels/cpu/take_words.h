#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/host_workers.h"

namespace headrace::cpu {

/// CpuKernels::take_words over a vector class V. Another writes the words meanwhile, so that thread
/// sanitizers must not look: these processors read an aligned quadword of a vector at once, and its
/// number says whether it counts.
template <typename V>
__attribute__((no_sanitize("thread"))) bool take_words(const HostWord* words, size_t count,
                                                       uint32_t number, uint32_t* bits) {
  constexpr size_t kAtOnce = V::kLanes / 2;
  bool all = true;
  size_t i = 0;
  for (; i + kAtOnce <= count; i += kAtOnce) all &= V::take_words(words + i, number, bits + i);
  for (; i < count; ++i) {
    const HostWord word = load_word(words[i]);
    bits[i] = word.bits;
    all &= word.number == number;
  }
  return all;
}

}  // namespace headrace::cpu
