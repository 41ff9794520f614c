#pragma once

#include <string_view>

#include "checkpoint/model_config.h"
#include "engine/format.h"
#include "engine/manifest.h"

namespace headrace {

/// Checks a manifest in itself: every matrix's tiles cover its rows once, in order, side by side;
/// all sections lie in the file and none overlaps another; strides hold their rows; codecs are
/// known. REQUIRES what parse_manifest has checked: tile counts add up, shapes are within the
/// format's limits. Error{kCorrupt} or {kUnsupported} naming `where` and the entry.
void check_manifest(const Manifest& manifest, const FileHeader& header, std::string_view where);

/// Checks that a manifest holds exactly the tensors of `config`, in order, with its shapes and
/// dtype. Error{kCorrupt} naming `where` and the first tensor that differs.
void validate_manifest(const Manifest& manifest, const ModelConfig& config, std::string_view where);

}  // namespace headrace
