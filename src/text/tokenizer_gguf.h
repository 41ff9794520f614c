#pragma once

#include <string>

#include "base/file.h"
#include "text/tokenizer_parts.h"

namespace headrace::text {

inline constexpr const char* kTokenizerGgufName = "tokenizer_gguf.json";

/// Reads tokenizer_gguf.json, which `headrace convert` writes from a GGUF file's metadata:
///   {"format": "headrace-gguf-tokenizer", "model": "gpt2", "pre": "smollm", "tokens": [text...],
///    "merges": ["left right"...], "token_types": [1 normal, 3 control, 4 user-defined, 6 byte...],
///    "bos_token_id", "eos_token_id", "unknown_token_id", "padding_token_id", "add_bos_token",
///    "add_eos_token", "add_space_prefix", "chat_template"}
/// Keys that the GGUF file does not have are absent. Also reads generation_config.json beside it.
TokenizerParts load_tokenizer_gguf(FileSystem& fs, const std::string& dir);

}  // namespace headrace::text
