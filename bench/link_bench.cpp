// The ring that streams over PCIe, alone, against bare copies: link_bench [PERCENT [ROUNDS]]
// Each round copies 256 MiB from pinned memory with nothing else to do, then runs a pass over a
// Llama-7B's made-up weights in which every lease is given back at once, without kernels: what the
// decode of `headrace bench` could reach if arithmetic took no time.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <vector>

#include "engine/engine_reader.h"
#include "kernels/backend.h"
#include "plan/plan.h"
#include "profile/measure.h"
#include "stream/weight_stream.h"
#include "stream_support.h"

namespace headrace {
namespace {

SyntheticSpec llama_7b(Log& log) {
  SyntheticSpec spec;
  spec.name = "llama_7b";
  spec.model.dtype = DType::kFloat16;
  spec.model.hidden_size = 4096;
  spec.model.intermediate_size = 11008;
  spec.model.num_hidden_layers = 32;
  spec.model.num_attention_heads = 32;
  spec.model.num_key_value_heads = 32;
  spec.model.head_size = 128;
  spec.model.vocab_size = 32000;
  spec.model.max_position_embeddings = 4096;
  spec.build.weight_streaming = true;
  spec.build = resolve_build_config(spec.build, spec.model, log);
  return spec;
}

void run_pass(const Manifest& manifest, WeightStream& stream) {
  stream.begin_pass(true);
  for (uint32_t group = 0; group < manifest.groups().size(); ++group) {
    WeightFeed& feed = stream.group(group);
    Lease lease;
    while (feed.next(lease)) lease.release();
  }
  stream.end_pass();
}

int run(int argc, char** argv) {
  const double percent = argc > 1 ? std::atof(argv[1]) : 0;
  const int rounds = std::max(1, argc > 2 ? std::atoi(argv[2]) : 5);
  bench::Surroundings surroundings;
  Context& context = surroundings.context;
  const Engine engine = Engine::synthetic(llama_7b(context.log));
  const auto backend = make_cuda_backend(0);
  PlanOptions plan_options;
  plan_options.budget.percent = percent;
  plan_options.streamed_home = Home::kHost;
  const Plan plan = make_plan(engine.manifest(), {}, plan_options);
  WeightStream stream(engine, plan, {}, *backend, context);
  stream.load_resident();
  std::printf("%s\n%s\n", backend->description().c_str(), stream.description().c_str());
  std::vector<double> bare;
  std::vector<double> ring;
  for (int round = 0; round < rounds; ++round) {
    stream.wait_idle();
    bare.push_back(measure_copy_gbps(*backend, context.clock));
    const int64_t begin_ns = context.clock.now_ns();
    run_pass(engine.manifest(), stream);
    stream.wait_idle();  // with the ring filled once more
    const auto elapsed_ns = static_cast<double>(context.clock.now_ns() - begin_ns);
    ring.push_back(static_cast<double>(plan.streamed_bytes) / elapsed_ns);
    std::printf("bare %.2f GB/s, ring %.2f GB/s\n", bare.back(), ring.back());
  }
  std::printf("medians: bare %.2f GB/s, ring %.2f GB/s (%.3f of it)\n", bench::median(bare),
              bench::median(ring), bench::median(ring) / bench::median(bare));
  return 0;
}

}  // namespace
}  // namespace headrace

int main(int argc, char** argv) {
  try {
    return headrace::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "link_bench: %s\n", error.what());
    return 1;
  }
}
