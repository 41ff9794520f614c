#include "stream/ring.h"

namespace headrace {

void describe_request(TraceEvent& event, const TransferRequest& transfer, uint32_t request,
                      uint64_t pass) {
  event.add("bytes", transfer.size_bytes);
  event.add("payload_bytes", transfer.payload_bytes);
  event.add("offset", transfer.offset);
  event.add("request", request);
  event.add("pass", pass);
}

}  // namespace headrace
