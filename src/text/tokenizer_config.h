#pragma once

#include <string>

#include "base/file.h"
#include "text/tokenizer_parts.h"

namespace headrace::text {

/// Fills bos, eos, pad, more_stop_ids and chat_template from the files beside tokenizer.json, each
/// of them optional: tokenizer_config.json, special_tokens_map.json, generation_config.json,
/// config.json, chat_template.jinja. REQUIRES: the vocabulary is complete.
void read_tokenizer_config(FileSystem& fs, const std::string& dir, TokenizerParts& parts);

/// Adds generation_config.json's "eos_token_id" to more_stop_ids, if the file is there.
void read_generation_config(FileSystem& fs, const std::string& dir, TokenizerParts& parts);

}  // namespace headrace::text
