#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/context.h"
#include "checkpoint/model_config.h"
#include "checkpoint/narrowing.h"
#include "tensor/dtype.h"

namespace headrace {

/// What became of a model.
struct ConvertReport {
  ModelConfig config;
  uint64_t tensors = 0;
  uint64_t bytes = 0;            // of all tensors
  uint64_t narrowed_values = 0;  // those whose type can hold less than the source's
  Narrowing narrowing;
};

/// Converts the model at `model_path`, a Hugging Face folder or a GGUF file, to a checkpoint in the
/// folder `output_dir`, which appears complete or not at all. `dtype`: nothing keeps the source's.
/// Holds at most 32 MiB of weights at a time. Error for anything in the model that is not
/// understood.
ConvertReport convert_model(const std::string& model_path, const std::string& output_dir,
                            std::optional<DType> dtype, Context& context);

/// Writes a checkpoint of a model that nobody trained: matrices are pseudo-random with standard
/// deviation 1/sqrt(columns), biases with 0.02, norms are 1. The same seed gives the same bits
/// everywhere. Without a seed everything is zero.
ConvertReport make_checkpoint(const ModelConfig& config, std::optional<uint64_t> seed,
                              const std::string& output_dir, Context& context);

}  // namespace headrace
