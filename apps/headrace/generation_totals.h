#pragma once

#include "executor/session.h"

namespace headrace::app {

/// Adds what one generate() call took to the sum over several.
void add_to(GenerationStats& total, const GenerationStats& more);

}  // namespace headrace::app
