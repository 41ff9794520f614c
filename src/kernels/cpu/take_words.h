#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/unroll.h"
#include "kernels/host_workers.h"

namespace headrace::cpu {

/// One word: whether it had the number.
HR_INLINE bool take_word(const HostWord& from, uint32_t number, uint32_t* bits) {
  const HostWord word = load_word(from);
  *bits = word.bits;
  return word.number == number;
}

/// CpuKernels::take_words over a vector class V. Another writes the words meanwhile, so that thread
/// sanitizers must not look: these processors read an aligned quadword of a vector at once, and its
/// number says whether it counts.
template <typename V>
__attribute__((no_sanitize("thread"))) bool take_words(const HostWord* words, size_t count,
                                                       uint32_t number, uint32_t* bits) {
  bool all = true;
  size_t i = 0;
  for (; i + V::kWords <= count; i += V::kWords) {
    all &= V::take_words(words + i, number, bits + i);
  }
  for (; i < count; ++i) all &= take_word(words[i], number, bits + i);
  return all;
}

}  // namespace headrace::cpu
