#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "kernels/weights.h"
#include "tensor/dtype.h"

namespace headrace {

/// Most token rows of a product that host threads take a share of.
inline constexpr int64_t kMostHostTokens = 8;

/// 32 bits and the number of the product that they belong to, written and read as one word: who
/// sees the number has the bits. Over PCIe, where a way takes microseconds, a reader saves the wait
/// for a flag that way, and a writer the wait until all is written.
struct alignas(8) HostWord {
  uint32_t bits = 0;
  uint32_t number = 0;
};

/// As it is now, while another may write it. Always inlined: files of several instruction sets use
/// it, and must not share its code.
inline __attribute__((always_inline)) HostWord load_word(const HostWord& word) {
  HostWord now;
  __atomic_load(&word, &now, __ATOMIC_RELAXED);
  return now;
}

/// Words of a row of x: its bytes, in order.
constexpr size_t words_of_x(int64_t k, DType dtype) {
  return (static_cast<size_t>(k) * dtype_size(dtype) + sizeof(uint32_t) - 1) / sizeof(uint32_t);
}

/// The share of a product that the host computes where the weights lie, while a device computes the
/// rest: out[t, r] = dot(t, r) in the canonical order (docs/numerics.md), for all rows of the runs,
/// counted through. No bias, nothing is accumulated.
struct HostProduct {
  DType dtype = DType::kFloat16;
  int64_t tokens = 0;  // at most kMostHostTokens
  int64_t k = 0;
  const HostWord* x = nullptr;           // [tokens, words_of_x(k, dtype)]; it may come later
  std::span<const WeightRun> runs = {};  // in host memory
  HostWord* out = nullptr;               // [tokens, rows], floats; of other numbers before
};

/// Where host and device meet beside x and results: memory that both see, each word on a line of
/// its own. Of the product of that number, progress.bits are the rows before which most results are
/// there: worth while to look for them. The host writes n into done when all of product n are. The
/// device writes n into arrived when it has nothing left to do but to take them.
struct HostMeetings {
  alignas(64) HostWord progress = {};
  alignas(64) uint32_t done = 0;
  alignas(64) uint32_t arrived = 0;
};

/// What the threads did, in total. Times are of the whole pool, from a product's x to its last row,
/// and from there to the x of the next one if that was enqueued already.
struct HostWork {
  uint64_t products = 0;
  uint64_t waited_for = 0;    // of those, by the device
  uint64_t weight_bytes = 0;  // as they are stored
  int64_t busy_ns = 0;
  int64_t waited_ns = 0;

  HostWork operator-(const HostWork& before) const {
    return {.products = products - before.products,
            .waited_for = waited_for - before.waited_for,
            .weight_bytes = weight_bytes - before.weight_bytes,
            .busy_ns = busy_ns - before.busy_ns,
            .waited_ns = waited_ns - before.waited_ns};
  }
};

/// Threads that multiply in host memory, each bound to a core of its own. They sleep while nothing
/// is enqueued (for a moment they poll first), and poll while a product waits for its x; who polls
/// for long gives its core to others that want it. enqueue(), lend_a_hand() and abandon() are for
/// one thread.
class HostWorkers {
 public:
  virtual ~HostWorkers() = default;

  virtual int threads() const = 0;
  /// Begins product number n, one more than the last, as soon as there are words of that number in
  /// x, and returns n. Memory that it names must stay until abandon(), and weights as they are: a
  /// thread that was held up may still read there when the product is over. Runs are copied; x and
  /// out may be used again when done has come to n. Waits while very many are enqueued.
  virtual uint32_t enqueue(const HostProduct& product) = 0;
  /// The caller, who would only wait for the device, multiplies as one thread more, until others
  /// have taken what is left of the products that are enqueued. While it waits long for an x it
  /// asks `no_x_comes`, which neither throws nor calls this object, whether that is in vain. If x
  /// is not there then either, all products are given up; abandon() has yet to wait for the
  /// threads.
  virtual void lend_a_hand(const std::function<bool()>& no_x_comes) = 0;
  /// Gives up all products that are enqueued, whose x may never come; done counts them, too. No
  /// thread reads anything any more then.
  virtual void abandon() = 0;
  virtual HostWork work() const = 0;
};

/// Makes the threads that meet a device at `meetings`, which outlive them.
using HostWorkersFactory = std::function<std::unique_ptr<HostWorkers>(HostMeetings& meetings)>;

/// Writes rows of x, packed in memory, for product `number`, as a device does.
void give_x(const HostProduct& product, uint32_t number, const std::byte* x);

/// `threads` workers on the best kernels that the processor has, for k up to max_k. Their first
/// product has the number meetings.done + 1; `meetings` must outlive them. Error{kOutOfMemory} if
/// the system refuses threads.
std::unique_ptr<HostWorkers> make_host_workers(int threads, int64_t max_k, HostMeetings& meetings);

}  // namespace headrace
