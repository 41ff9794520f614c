#pragma once

#include <cstdint>

#include "engine/manifest.h"
#include "plan/plan.h"

namespace headrace {

/// In which order requests are fetched: pass after pass, requests [0, body) in every pass and
/// [body, count) (lm_head's) only in passes with logits. Which kind a pass is becomes known when it
/// begins; until then the order does not go on past its body. Confined to one thread.
class PassOrder {
 public:
  PassOrder(uint32_t body, uint32_t count) : body_(body), count_(count) {}
  /// The order of a plan's requests.
  static PassOrder of(const Manifest& manifest, const Plan& plan);

  /// Pass number `begun` (from 0) begins; its kind is known now.
  void begin_pass(bool with_logits);
  uint64_t passes_begun() const { return begun_; }
  /// Whether it is known what comes next.
  bool has_next();
  /// Number of the pass that the next request belongs to, and the request. REQUIRES: has_next().
  uint64_t pass() const { return pass_; }
  uint32_t request() const { return request_; }
  void advance() { ++request_; }
  /// Goes to the beginning of the pass that begins next, if it is not there yet.
  void skip_to_next_pass();

 private:
  const uint32_t body_;
  const uint32_t count_;
  uint64_t begun_ = 0;        // passes begun so far
  bool with_logits_ = false;  // of the pass begun last
  uint64_t pass_ = 0;
  uint32_t request_ = 0;
};

}  // namespace headrace
