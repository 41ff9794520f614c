#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "headrace/error.h"

namespace headrace {

/// e^x for x <= 0 within 2 units of the last place, and 0 below -87: plain float arithmetic, so
/// that results are the same everywhere.
float exp_nonpositive(float x);

/// A logit that is NaN or +infinity, which nothing can be chosen with.
class BadLogit : public Error {
 public:
  BadLogit(size_t token, float value);
  /// The logit and its value, without why.
  const std::string& logit() const { return logit_; }

 private:
  explicit BadLogit(const std::string& logit);
  std::string logit_;
};

/// Whether none is NaN or +infinity.
bool all_good(std::span<const float> logits);

/// Index of the largest logit, the first if several are. BadLogit (kInvalidArgument) naming the
/// token for one that is NaN or +infinity; Error{kInvalidArgument} when all are -infinity or there
/// is none.
int32_t argmax(std::span<const float> logits);

/// log(sum(exp(logits))), `maximum` being the largest of them.
double log_sum_exp(std::span<const float> logits, float maximum);

}  // namespace headrace
