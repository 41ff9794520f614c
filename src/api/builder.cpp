#include "headrace/builder.h"

#include <utility>

#include "base/clock.h"
#include "base/context.h"
#include "base/error.h"
#include "base/file.h"
#include "base/function_log.h"
#include "base/progress.h"
#include "base/thread_pool.h"
#include "base/trace.h"
#include "checkpoint/checkpoint.h"
#include "engine/builder.h"
#include "tensor/dtype.h"

namespace headrace {
namespace {

void check_precision(const std::string& precision, const std::string& checkpoint_dir) {
  if (precision == "auto") return;
  const Checkpoint checkpoint = Checkpoint::open(posix_file_system(), checkpoint_dir);
  const DType stored = checkpoint.config().dtype;
  if (parse_dtype(precision, "precision") != stored) {
    fail(ErrorCode::kInvalidArgument,
         "[build] precision {}: the checkpoint is {}: use that, or convert the model again",
         precision, dtype_name(stored));
  }
}

}  // namespace

Builder::Builder(LogFunction log) : log_(std::move(log)) {}

BuilderConfig Builder::create_builder_config(const std::string& precision, bool strongly_typed,
                                             bool weight_streaming) const {
  return {.precision = precision,
          .build = {.weight_streaming = weight_streaming, .strongly_typed = strongly_typed}};
}

BuildReport Builder::build(const std::string& checkpoint_dir, const std::string& output_dir,
                           const BuilderConfig& config) const {
  check_precision(config.precision, checkpoint_dir);
  SteadyClock clock;
  Trace trace(clock);
  FunctionLog log(log_);
  ThreadPool pool(1);
  const auto progress = make_null_progress();
  Context context{.fs = posix_file_system(),
                  .pool = pool,
                  .log = log,
                  .progress = *progress,
                  .clock = clock,
                  .trace = trace};
  return build_engine(checkpoint_dir, output_dir, config.build, context);
}

}  // namespace headrace
