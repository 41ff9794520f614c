#include "headrace/sampling_flags.h"

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

void add_sampling_flags(CLI::App& command, SamplingParams& sampling) {
  command.add_option("--temperature", sampling.temperature, "Default 1.0; 0: greedy");
  add_top_flags(command, sampling);
  command.add_option("--repetition_penalty", sampling.repetition_penalty, "Default 1.0");
  command.add_option("--presence_penalty", sampling.presence_penalty, "Default 0.0");
  command.add_option("--frequency_penalty", sampling.frequency_penalty, "Default 0.0");
  command.add_option("--random_seed", sampling.random_seed, "Default 0");
}

}  // namespace headrace::app
