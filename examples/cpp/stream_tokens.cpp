// Prints the tokens of a few prompts as they come, all served at once.
//
//   stream_tokens ENGINE_DIR [GPU_WEIGHTS_PERCENT]

#include <cstdint>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <vector>

#include "headrace/executor.h"

namespace {

void serve(const headrace::ExecutorOptions& options) {
  headrace::Executor executor(options);
  const std::vector<std::vector<int32_t>> prompts = {{1, 2, 3, 4}, {5, 6}, {7, 8, 9}};
  for (const std::vector<int32_t>& prompt : prompts) {
    executor.enqueue({.prompt = prompt, .max_new_tokens = 8, .streaming = true});
  }
  for (size_t ended = 0; ended < prompts.size();) {
    for (const headrace::Response& response : executor.await_responses()) {
      if (response.result.is_final) ++ended;
      if (response.error) {
        std::cerr << "request " << response.request_id << ": " << *response.error << "\n";
        continue;
      }
      for (const int32_t token : response.result.tokens.at(0)) {
        std::cout << "request " << response.request_id << ": " << token << "\n";
      }
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::cerr << "usage: stream_tokens ENGINE_DIR [GPU_WEIGHTS_PERCENT]\n";
    return 2;
  }
  try {
    headrace::ExecutorOptions options;
    options.engine_dir = argv[1];
    if (argc > 2) options.gpu_weights_percent = std::atof(argv[2]);
    serve(options);
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
