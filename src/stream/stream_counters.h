#pragma once

#include <cstdint>

namespace headrace {

/// What moved, exactly, and how time passed. Totals since the stream was made; subtract two
/// snapshots for what happened between them. read_bytes = leased_bytes + dropped_bytes + what waits
/// in the ring.
struct StreamCounters {
  int64_t passes = 0;
  int64_t requests = 0;               // requests leased
  uint64_t payload_bytes = 0;         // of the non-resident tiles leased
  uint64_t leased_bytes = 0;          // bytes of the same as read from the file
  uint64_t padding_bytes = 0;         // leased_bytes - payload_bytes
  uint64_t read_bytes = 0;            // bytes that arrived in the ring, padding included
  uint64_t dropped_bytes = 0;         // arrived, but never leased: a pass was abandoned
  uint64_t host_bytes = 0;            // payload that the host multiplied where it lay
  uint64_t embedding_bytes = 0;       // embedding rows gathered
  uint64_t embedding_read_bytes = 0;  // bytes that this took from the file
  uint64_t resident_load_bytes = 0;   // bytes read once, into the arena
  uint64_t host_load_bytes = 0;       // bytes read once, into host memory
  int64_t host_busy_ns = 0;           // host threads multiplied
  int64_t link_busy_ns = 0;           // a read was in flight
  int64_t starved_ns = 0;             // a ring slot was free and no read was in flight
  int64_t wait_ns = 0;                // the consumer waited for bytes
  int64_t pass_ns = 0;                // between begin_pass and end_pass

  friend StreamCounters operator+(const StreamCounters& a, const StreamCounters& b);
  friend StreamCounters operator-(const StreamCounters& a, const StreamCounters& b);
};

}  // namespace headrace
