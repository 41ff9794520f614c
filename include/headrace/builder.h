#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "headrace/build_config.h"
#include "headrace/error.h"
#include "headrace/executor_options.h"

namespace headrace {

/// What a build wrote.
struct BuildReport {
  int64_t matrices = 0;
  int64_t tiles = 0;
  uint64_t streamable_bytes = 0;
  uint64_t payload_bytes = 0;  // of the same weights as they are coded
  uint64_t file_bytes = 0;     // of the weight file
  double seconds = 0;
  /// By codec ("e3", "e4") that was tried: the pages that tiles take if it alone may code them, as
  /// a share of those of raw tiles. Empty if none may code weights of this precision.
  std::map<std::string, double> codec_shares = {};
};

/// What a Builder builds with.
struct BuilderConfig {
  std::string precision = "auto";  // the checkpoint's: auto, float16, bfloat16 or float32
  BuildConfig build = {};
};

/// Builds engines of checkpoints. Immutable; its functions may be called from any thread.
class Builder {
 public:
  /// `log` receives warnings about what is clipped or has no meaning here.
  explicit Builder(LogFunction log = {});

  /// `strongly_typed` is accepted: every engine here is.
  BuilderConfig create_builder_config(const std::string& precision = "auto",
                                      bool strongly_typed = false,
                                      bool weight_streaming = false) const;

  /// Builds an engine folder of a checkpoint folder. The output appears whole or not at all. Needs
  /// a few MiB of memory. Error{kInvalidArgument} for a configuration that cannot be honoured
  /// (another precision than the checkpoint's, weight streaming with a gemm plugin), {kNotFound} or
  /// {kCorrupt} for the checkpoint, {kIo} for a full disk and the like.
  BuildReport build(const std::string& checkpoint_dir, const std::string& output_dir,
                    const BuilderConfig& config = {}) const;

 private:
  LogFunction log_;
};

}  // namespace headrace
