#pragma once

#include <cstdint>

#include "plan/pass_use.h"

namespace headrace {

/// In which order requests are fetched: pass after pass, those of the pass's use, lm_head's only in
/// passes with logits. Which use a pass has becomes known when it begins; until then the order does
/// not go on past the requests that all uses have in common. Confined to one thread.
class PassOrder {
 public:
  /// `common`: how many they are. `all`: every pass has these and no others, so that the order goes
  /// on pass after pass.
  PassOrder(uint32_t common, bool all) : common_(common), all_(all) {}
  static PassOrder of(const Plan& plan) {
    return {plan.common_requests, plan.common_requests == plan.requests.size()};
  }

  /// Pass number `begun` (from 0) begins; its use is known now.
  void begin_pass(const PassUse& use, bool with_logits);
  uint64_t passes_begun() const { return begun_; }
  /// Whether it is known what comes next.
  bool has_next();
  /// Number of the pass that the next request belongs to, and the request, an index into its use's.
  /// REQUIRES: has_next().
  uint64_t pass() const { return pass_; }
  uint32_t request() const { return request_; }
  void advance() { ++request_; }
  /// Goes to the beginning of the pass that begins next, if it is not there yet.
  void skip_to_next_pass();

 private:
  const uint32_t common_;
  const bool all_;
  uint64_t begun_ = 0;  // passes begun so far
  uint32_t count_ = 0;  // requests of the pass begun last
  uint64_t pass_ = 0;
  uint32_t request_ = 0;
};

}  // namespace headrace
