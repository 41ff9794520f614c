#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "checkpoint/model_config.h"
#include "headrace/build_config.h"

namespace headrace {

class Log;

/// Reads the "build_config" object. Missing keys keep their defaults, unknown ones are ignored;
/// mistyped or absurd values are Error{kCorrupt} naming `where` and the key.
BuildConfig parse_build_config(std::string_view json_text, std::string_view where);

/// The text of the "build_config" object, with upstream's key names.
std::string build_config_to_json(const BuildConfig& config);

/// "all" or a number above 0, as --canonical_rows takes it. Error{kInvalidArgument} otherwise.
int64_t parse_canonical_rows(std::string_view text);

/// Settles `config` for `model`: fills in max_seq_len, clips max_input_len to it with a warning,
/// and warns about a max_seq_len beyond the model's training. Error{kInvalidArgument} naming the
/// flag for values below 1 or absurdly large, and for weight streaming with a gemm plugin.
BuildConfig resolve_build_config(const BuildConfig& config, const ModelConfig& model, Log& log);

}  // namespace headrace
