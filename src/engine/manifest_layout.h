#pragma once

#include <cstdint>

#include "checkpoint/model_config.h"
#include "engine/manifest.h"

namespace headrace {

/// Where everything of a model's weight file lies (docs/engine-format.md): its manifest, complete
/// but for the checksums, which are 0. A pure function. REQUIRES: `model` is valid and within the
/// format's limits. Error{kInvalidArgument} if there are more tiles than a manifest can list.
Manifest lay_out_manifest(const ModelConfig& model, uint64_t tile_bytes);

}  // namespace headrace
