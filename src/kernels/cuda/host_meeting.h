#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "kernels/backend.h"
#include "kernels/cuda/launchers.h"
#include "kernels/host_workers.h"

namespace headrace::cuda {

/// Shares products with the host's threads: gives them x through pinned memory, lets them multiply
/// the rows that lie in theirs, and takes the results, all in the order of the queue and without a
/// call of the host in between. Used by one thread.
class HostMeeting {
 public:
  /// For products of up to kMostHostTokens token rows, `max_k` columns, and `max_rows` rows of the
  /// host in a group.
  HostMeeting(Queue& queue, const HostWorkersFactory& make_workers, int64_t max_k,
              int64_t max_rows);
  ~HostMeeting();
  HostMeeting(const HostMeeting&) = delete;
  HostMeeting& operator=(const HostMeeting&) = delete;

  /// Before the device's part of the product; x is written by what is enqueued already.
  void begin(const MatmulArgs& args, std::span<const WeightRun> runs);
  /// After it, with the same arguments.
  void finish(const MatmulArgs& args, std::span<const WeightRun> runs);
  /// Multiplies, while there is nothing to do but to wait for the queue.
  void lend_a_hand();
  /// Throws if the device waited in vain for the host. For when all that was enqueued has ended.
  void check_deadlines();
  /// Backend::end_host_products().
  void abandon() { workers_->abandon(); }
  const HostWorkers& workers() const { return *workers_; }

 private:
  /// Pinned memory: the counters, then two products' x and results, which take turns.
  struct Shared;

  HostWord* x_of(uint32_t number) const;
  HostWord* products_of(uint32_t number) const;

  Queue& queue_;
  const size_t x_bytes_;
  const size_t product_bytes_;
  std::byte* memory_ = nullptr;
  std::unique_ptr<HostWorkers> workers_;
  uint32_t number_ = 0;  // of the product begun last
};

}  // namespace headrace::cuda
