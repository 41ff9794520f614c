// Streaming against the bare disk: stream_bench ENGINE_DIR [PERCENT [ROUNDS [PASSES]]]
// Each round reads the engine's file for a while, deep and with nothing else to do, then runs
// passes of one token row over all matrices, whose weights stream. The two take turns, so that a
// disk whose speed drifts treats both alike; medians are compared.

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

/// One pass of one token row through every matrix.
class Pass {
 public:
  Pass(const Engine& engine, Backend& backend) : engine_(engine), backend_(backend) {
    int64_t widest = 0;
    int64_t tallest = 0;
    for (const MatrixInfo& matrix : engine.manifest().matrices) {
      widest = std::max(widest, matrix.k);
      tallest = std::max(tallest, matrix.rows);
    }
    x_ = backend.allocate(static_cast<size_t>(widest) * sizeof(float), "x");
    out_ = backend.allocate(2 * static_cast<size_t>(tallest) * sizeof(float), "out");
    backend.reserve({.max_tokens = 1, .max_k = widest});
  }

  void run(WeightStream& stream) {
    const Manifest& manifest = engine_.manifest();
    const std::vector<MatrixGroup> groups = manifest.groups();
    stream.begin_pass(true);
    for (uint32_t g = 0; g < groups.size(); ++g) {
      std::vector<MatrixOutput> outputs;
      const MatrixInfo* matrix = &manifest.matrices[groups[g].first_matrix];
      for (uint32_t m = 0; m < groups[g].matrix_count; ++m) {
        outputs.push_back({.rows = matrix[m].rows,
                           .out = out_.floats() + m * matrix[m].rows,
                           .stride = matrix[m].rows});
      }
      backend_.matmul({.dtype = matrix->dtype,
                       .tokens = 1,
                       .k = matrix->k,
                       .x = x_.data(),
                       .x_stride_bytes = static_cast<size_t>(matrix->k) * dtype_size(matrix->dtype),
                       .outputs = outputs},
                      stream.group(g));
    }
    stream.end_pass();
  }

 private:
  const Engine& engine_;
  Backend& backend_;
  Buffer x_;
  Buffer out_;
};

int run(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: stream_bench ENGINE_DIR [PERCENT [ROUNDS [PASSES]]]\n");
    return 2;
  }
  const double percent = argc > 2 ? std::atof(argv[2]) : 0;
  const int rounds = argc > 3 ? std::atoi(argv[3]) : 5;
  const int passes = argc > 4 ? std::atoi(argv[4]) : 2;

  bench::Surroundings surroundings;
  Context& context = surroundings.context;
  const Engine engine = Engine::open(context.fs, argv[1]);
  const auto backend = make_cpu_backend(context.pool, detect_cpu_isa());
  const Plan plan = make_plan(engine.manifest(), {}, {.budget = {.percent = percent}});

  std::vector<double> bare;
  std::vector<double> streamed;
  std::vector<double> starved;
  Pass pass(engine, *backend);
  {
    WeightStream stream(engine, plan, {}, *backend, context);
    stream.load_resident();
    std::printf("%s\n%s\n", backend->description().c_str(), stream.description().c_str());
    for (int round = 0; round < rounds; ++round) {
      bare.push_back(
          measure_read_gbps(engine.weights_path(), {}, {.depth = 16, .seconds = 1.0}, context));
      pass.run(stream);  // the ring was full: begins in a steady state
      const StreamCounters before = stream.counters();
      const int64_t begin_ns = context.clock.now_ns();
      for (int p = 0; p < passes; ++p) pass.run(stream);
      const auto elapsed_ns = static_cast<double>(context.clock.now_ns() - begin_ns);
      const StreamCounters moved = stream.counters() - before;
      streamed.push_back(static_cast<double>(moved.leased_bytes) / elapsed_ns);
      starved.push_back(100 * static_cast<double>(moved.starved_ns) / elapsed_ns);
      std::printf("bare %.2f GB/s, streamed %.2f GB/s, waited %.1f %%, starved %.3f %%\n",
                  bare.back(), streamed.back(),
                  100 * static_cast<double>(moved.wait_ns) / elapsed_ns, starved.back());
    }
  }
  std::printf("medians: bare %.2f GB/s, streamed %.2f GB/s (%.3f of it), starved %.3f %%\n",
              bench::median(bare), bench::median(streamed),
              bench::median(streamed) / bench::median(bare), bench::median(starved));
  return 0;
}

}  // namespace
}  // namespace headrace

int main(int argc, char** argv) {
  try {
    return headrace::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "stream_bench: %s\n", error.what());
    return 1;
  }
}
