#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace headrace {

/// e^x for x <= 0 within 2 units of the last place, and 0 below -87: plain float arithmetic, so
/// that results are the same everywhere.
float exp_nonpositive(float x);

/// Index of the largest logit, the first if several are. Error{kInvalidArgument} naming the token
/// for a logit that is NaN or +infinity, and when all are -infinity or there is none.
int32_t argmax(std::span<const float> logits);

/// log(sum(exp(logits))), `maximum` being the largest of them.
double log_sum_exp(std::span<const float> logits, float maximum);

}  // namespace headrace
