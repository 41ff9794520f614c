#pragma once

#include "headrace/app.h"
#include "sampling/beam_search.h"
#include "sampling/sampling_params.h"

namespace headrace::app {

/// Registers the flags that choose how tokens are sampled, the same for every command that
/// generates text. `sampling` has to outlive the command.
void add_sampling_flags(CLI::App& command, SamplingParams& sampling);

/// Flags of a beam search; names and defaults are those of TensorRT-LLM's run.py.
struct BeamFlags {
  int32_t num_beams = 1;  // 1: none
  float length_penalty = 1.0f;
  int32_t early_stopping = 1;
  float diversity_rate = 0.0f;

  BeamSearchOptions options() const;
};

/// Registers them. `beams` has to outlive the command.
void add_beam_flags(CLI::App& command, BeamFlags& beams);

/// Those of add_sampling_flags() that bench has too.
void add_top_flags(CLI::App& command, SamplingParams& sampling);

}  // namespace headrace::app
