#include "stream/pass_order.h"

namespace headrace {

PassOrder PassOrder::of(const Manifest& manifest, const Plan& plan) {
  const auto count = static_cast<uint32_t>(plan.requests.size());
  uint32_t body = count;
  while (body > 0) {
    const TileInfo& tile = manifest.tiles[plan.requests[body - 1].first_tile];
    if (manifest.matrices[tile.matrix].role != Role::kLmHead) break;
    --body;
  }
  return {body, count};
}

void PassOrder::begin_pass(bool with_logits) {
  ++begun_;
  with_logits_ = with_logits;
}

bool PassOrder::has_next() {
  if (count_ == 0) return false;
  while (true) {
    if (request_ < body_) return true;
    if (body_ < count_) {
      if (pass_ >= begun_) return false;
      if (with_logits_ && request_ < count_) return true;
    }
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
