#pragma once

#include "headrace/app.h"
#include "sampling/sampling_params.h"

namespace headrace::app {

/// Registers the flags that choose how tokens are sampled, the same for every command that
/// generates text. `sampling` has to outlive the command.
void add_sampling_flags(CLI::App& command, SamplingParams& sampling);

/// The two of them that bench has too.
void add_top_flags(CLI::App& command, SamplingParams& sampling);

}  // namespace headrace::app
