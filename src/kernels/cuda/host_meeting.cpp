#include "kernels/cuda/host_meeting.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <new>

#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/host_products.cuh"
#include "kernels/cuda/matmul_run.h"

namespace headrace::cuda {
namespace {

constexpr size_t kAlignment = 4096;

size_t align_up(size_t size_bytes) {
  return (size_bytes + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

struct HostMeeting::Shared {
  HostMeetings meetings;
  alignas(64) uint32_t overdue = 0;
};

HostMeeting::HostMeeting(Queue& queue, const HostWorkersFactory& make_workers, int64_t max_k,
                         int64_t max_rows)
    : queue_(queue),
      x_bytes_(align_up(static_cast<size_t>(kMostHostTokens * max_k) * sizeof(HostWord))),
      product_bytes_(align_up(static_cast<size_t>(kMostHostTokens * max_rows) * sizeof(HostWord))) {
  const size_t bytes = kAlignment + 2 * (x_bytes_ + product_bytes_);
  void* memory = nullptr;
  check(cudaHostAlloc(&memory, bytes, cudaHostAllocMapped), "pinning memory for host products");
  memory_ = static_cast<std::byte*>(memory);
  std::memset(memory_, 0, bytes);  // no product has the number 0
  auto* const shared = new (memory_) Shared;
  workers_ = make_workers(shared->meetings);
}

HostMeeting::~HostMeeting() {
  workers_.reset();  // gives up what waits
  cudaStreamSynchronize(queue_.stream);
  cudaFreeHost(memory_);
}

HostWord* HostMeeting::x_of(uint32_t number) const {
  return reinterpret_cast<HostWord*>(memory_ + kAlignment + number % 2 * x_bytes_);
}

HostWord* HostMeeting::products_of(uint32_t number) const {
  return reinterpret_cast<HostWord*>(memory_ + kAlignment + 2 * x_bytes_ +
                                     number % 2 * product_bytes_);
}

void HostMeeting::begin(const MatmulArgs& args, std::span<const WeightRun> runs) {
  const size_t row_bytes = static_cast<size_t>(args.k) * dtype_size(args.dtype);
  const uint32_t next = number_ + 1;
  number_ = workers_->enqueue({.dtype = args.dtype,
                               .tokens = args.tokens,
                               .k = args.k,
                               .x = x_of(next),
                               .runs = runs,
                               .out = products_of(next)});
  HR_CHECK(number_ == next);
  give_x({.x = args.x,
          .x_stride_bytes = static_cast<int64_t>(args.x_stride_bytes),
          .row_bytes = static_cast<int32_t>(row_bytes),
          .tokens = static_cast<int32_t>(args.tokens),
          .host_x = reinterpret_cast<uint64_t*>(x_of(number_)),
          .number = number_},
         queue_);
}

void HostMeeting::finish(const MatmulArgs& args, std::span<const WeightRun> runs) {
  auto* const shared = reinterpret_cast<Shared*>(memory_);
  int32_t all_rows = 0;
  for (const WeightRun& run : runs) all_rows += static_cast<int32_t>(run.rows);
  HR_CHECK(static_cast<size_t>(args.tokens * all_rows) * sizeof(HostWord) <= product_bytes_);
  const auto* const first_product = reinterpret_cast<const uint64_t*>(products_of(number_));
  const uint64_t* products = first_product;
  for (size_t first = 0; first < runs.size(); first += kMaxRunsPerLaunch) {
    TakenProducts taken = {};
    taken.run_count =
        static_cast<int32_t>(std::min<size_t>(runs.size() - first, kMaxRunsPerLaunch));
    taken.all_rows = all_rows;
    taken.tokens = static_cast<int32_t>(args.tokens);
    taken.products = products;
    taken.progress = reinterpret_cast<const uint64_t*>(&shared->meetings.progress);
    taken.rows_before = static_cast<int32_t>(products - first_product);
    taken.arrived = &shared->meetings.arrived;
    taken.overdue = &shared->overdue;
    taken.number = number_;
    for (int32_t i = 0; i < taken.run_count; ++i) {
      const WeightRun& run = runs[first + static_cast<size_t>(i)];
      taken.runs[i] = run_of(args, run);
      taken.first_row[i + 1] = taken.first_row[i] + static_cast<int32_t>(run.rows);
    }
    products += taken.first_row[taken.run_count];
    take_products(taken, queue_);
  }
}

void HostMeeting::lend_a_hand() {
  // Where the queue has ended, x was given, or the device has failed.
  workers_->lend_a_hand([&] {
    if (cudaStreamQuery(queue_.stream) != cudaErrorNotReady) return true;
    cudaGetLastError();  // that is none
    return false;
  });
}

void HostMeeting::check_deadlines() {
  auto* const shared = reinterpret_cast<Shared*>(memory_);
  if (std::atomic_ref(shared->overdue).exchange(0) == 0) return;
  workers_->abandon();  // the device has gone on, and x of what they wait for is gone
  fail(ErrorCode::kDevice,
       "[cuda] the device waited 20 s for products of the host's threads: is the machine "
       "overloaded? --host_threads 0 does without them");
}

}  // namespace headrace::cuda
