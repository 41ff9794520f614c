#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/launchers.h"

/// How kernels meet the host's threads (kernels/host_workers.h), in memory that both see.
namespace headrace::cuda {

/// x of a product on its way to the host.
struct GivenX {
  const std::byte* x = nullptr;  // rows of elements of 2 or 4 bytes, x_stride_bytes apart
  int64_t x_stride_bytes = 0;
  int32_t row_bytes = 0;  // a multiple of 2
  int32_t tokens = 0;
  uint64_t* host_x = nullptr;  // the host's: HostWord, rows of words_of_x(), the number above
  uint32_t number = 0;
};

/// Copies x into words of the product's number.
void give_x(const GivenX& given, Queue& queue);

/// Products of the host on their way into a matmul's outputs.
struct TakenProducts {
  MatmulRun runs[kMaxRunsPerLaunch];  // where they go; weights are not used
  int32_t first_row[kMaxRunsPerLaunch + 1];  // run i takes rows [first_row[i], first_row[i + 1])
  int32_t run_count = 0;
  int32_t all_rows = 0;  // words between token rows of `products`
  int32_t tokens = 0;
  const uint64_t* products = nullptr;     // the host's: HostWord, the number above the value
  const uint64_t* progress = nullptr;     // HostMeetings::progress, the number above the rows
  int32_t rows_before = 0;                // of the product, that other launches take
  uint32_t* arrived = nullptr;            // HostMeetings::arrived
  uint32_t* overdue = nullptr;            // the host's: set if the products do not come
  uint32_t number = 0;
};

/// Waits until the host has multiplied, up to a deadline, and stores what it has.
void take_products(const TakenProducts& taken, Queue& queue);

}  // namespace headrace::cuda
