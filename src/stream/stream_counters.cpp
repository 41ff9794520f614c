#include "stream/stream_counters.h"

namespace headrace {

StreamCounters operator-(const StreamCounters& a, const StreamCounters& b) {
  return {.passes = a.passes - b.passes,
          .requests = a.requests - b.requests,
          .payload_bytes = a.payload_bytes - b.payload_bytes,
          .leased_bytes = a.leased_bytes - b.leased_bytes,
          .padding_bytes = a.padding_bytes - b.padding_bytes,
          .read_bytes = a.read_bytes - b.read_bytes,
          .dropped_bytes = a.dropped_bytes - b.dropped_bytes,
          .host_bytes = a.host_bytes - b.host_bytes,
          .embedding_bytes = a.embedding_bytes - b.embedding_bytes,
          .embedding_read_bytes = a.embedding_read_bytes - b.embedding_read_bytes,
          .resident_load_bytes = a.resident_load_bytes - b.resident_load_bytes,
          .host_load_bytes = a.host_load_bytes - b.host_load_bytes,
          .host_busy_ns = a.host_busy_ns - b.host_busy_ns,
          .link_busy_ns = a.link_busy_ns - b.link_busy_ns,
          .starved_ns = a.starved_ns - b.starved_ns,
          .wait_ns = a.wait_ns - b.wait_ns,
          .pass_ns = a.pass_ns - b.pass_ns};
}

/// a - (0 - b), in unsigned arithmetic too.
StreamCounters operator+(const StreamCounters& a, const StreamCounters& b) {
  return a - (StreamCounters{} - b);
}

}  // namespace headrace
