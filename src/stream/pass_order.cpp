#include "stream/pass_order.h"

namespace headrace {

void PassOrder::begin_pass(const PassUse& use, bool with_logits) {
  ++begun_;
  count_ = with_logits ? static_cast<uint32_t>(use.requests.size()) : use.body;
}

bool PassOrder::has_next() {
  if (common_ == 0 && all_) return false;
  while (true) {
    const bool begun = pass_ < begun_;
    if (request_ < (begun ? count_ : common_)) return true;
    if (!begun && !all_) return false;
    ++pass_;
    request_ = 0;
  }
}

void PassOrder::skip_to_next_pass() {
  if (pass_ >= begun_) return;
  pass_ = begun_;
  request_ = 0;
}

}  // namespace headrace
