#include "stream/ring.h"

namespace headrace {

void describe_request(TraceEvent& event, const Plan& plan, uint32_t request, uint64_t pass) {
  const TransferRequest& transfer = plan.requests[request];
  event.add("bytes", transfer.size_bytes);
  event.add("payload_bytes", transfer.payload_bytes);
  event.add("offset", transfer.offset);
  event.add("request", request);
  event.add("pass", pass);
}

}  // namespace headrace
