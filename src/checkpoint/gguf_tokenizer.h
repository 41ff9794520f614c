#pragma once

#include <string>

#include "checkpoint/gguf.h"

namespace headrace {

/// Name of the file that carries a GGUF's tokenizer in checkpoints and engines.
inline constexpr const char* kGgufTokenizerFile = "tokenizer_gguf.json";

/// The tokenizer of a GGUF file as JSON:
///   {"format": "headrace-gguf-tokenizer", "model", "pre", "tokens": [...], "merges": [...],
///    "token_types": [...], "bos_token_id", "eos_token_id", "unknown_token_id",
///    "padding_token_id", "add_bos_token", "add_space_prefix", "chat_template"}
/// with the values of its tokenizer.* keys; what the file does not state is left out. Empty if the
/// file holds no tokenizer. Error{kCorrupt} for texts that are not UTF-8, lists of different
/// lengths and ids outside the vocabulary.
std::string gguf_tokenizer_json(const GgufFile& gguf);

}  // namespace headrace
