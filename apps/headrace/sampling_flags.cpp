#include "headrace/sampling_flags.h"

#include "executor/request_check.h"

namespace headrace::app {

void add_top_flags(CLI::App& command, SamplingParams& sampling) {
  command.add_option(
      "--top_k", sampling.top_k,
      "Sample from the K most likely tokens (default 1: greedy; 0: from all, or greedy "
      "where --top_p is 0 too)");
  command.add_option(
      "--top_p", sampling.top_p,
      "Sample from the most likely tokens whose probabilities sum to P (default 0.0: "
      "no limit, as 1.0)");
}

BeamSearchOptions BeamFlags::options() const {
  return beam_search_options({.beam_width = num_beams,
                              .length_penalty = length_penalty,
                              .early_stopping = early_stopping,
                              .beam_search_diversity_rate = diversity_rate});
}

void add_beam_flags(CLI::App& command, BeamFlags& beams) {
  command.add_option("--num_beams", beams.num_beams,
                     "Beams of a beam search (default 1: none), up to the engine's "
                     "--max_beam_width");
  command.add_option("--length_penalty", beams.length_penalty,
                     "Exponent of the length that divides a beam's sum (default 1.0)");
  command.add_option("--early_stopping", beams.early_stopping,
                     "1: a search ends when there are enough outputs (default); 0: when no beam "
                     "would beat them if it ended; 2: when none can");
  command.add_option("--beam_search_diversity_rate", beams.diversity_rate, "Default 0.0");
}

void add_sampling_flags(CLI::App& command, SamplingParams& sampling) {
  command.add_option("--temperature", sampling.temperature, "Default 1.0; 0: greedy");
  add_top_flags(command, sampling);
  command.add_option("--repetition_penalty", sampling.repetition_penalty, "Default 1.0");
  command.add_option("--presence_penalty", sampling.presence_penalty, "Default 0.0");
  command.add_option("--frequency_penalty", sampling.frequency_penalty, "Default 0.0");
  command.add_option("--no_repeat_ngram_size", sampling.no_repeat_ngram_size,
                     "Never repeat so many tokens in a row (default 0: off)");
  command.add_option("--random_seed", sampling.random_seed, "Default 0")
      ->check(CLI::NonNegativeNumber);
}

}  // namespace headrace::app
