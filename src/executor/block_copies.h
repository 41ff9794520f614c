#pragma once

#include <span>

#include "kernels/backend.h"
#include "kv/kv_cache.h"

namespace headrace {

/// Copies K and V of whole blocks, in all layers, before the ops that are enqueued next.
void copy_blocks(std::span<const KvBlockCopy> copies, const KvCache& kv, Backend& backend);

}  // namespace headrace
