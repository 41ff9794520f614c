#pragma once

#include <string>

#include "base/context.h"
#include "engine/build_config.h"
#include "headrace/builder.h"

namespace headrace {

/// Builds an engine folder of a checkpoint folder. The output appears whole or not at all, and
/// holds the checkpoint's tokenizer and other companion files too. Needs a few MiB of memory,
/// whatever the model's size. Reports bytes through context.progress. Error{kInvalidArgument} for a
/// configuration that cannot be honoured (resolve_build_config), {kCorrupt} or {kNotFound} for a
/// checkpoint whose tensors are not those of its configuration, {kIo} for a full disk and the like.
BuildReport build_engine(const std::string& checkpoint_dir, const std::string& output_dir,
                         const BuildConfig& config, Context& context);

}  // namespace headrace
