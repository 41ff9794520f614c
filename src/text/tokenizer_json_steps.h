#pragma once

#include "text/json_fields.h"
#include "text/tokenizer_parts.h"

namespace headrace::text {

// The parts of tokenizer.json around the model. Each takes the member's value, or null where the
// file has none; what is not built here is Error{kUnsupported} naming it.

Normalizer read_normalizer(const JsonFields& fields, const nlohmann::json* value);

struct PreTokenizerRead {
  PreTokenizer pre_tokenizer;
  bool byte_level = false;  // pieces are spelt in the byte alphabet
};
PreTokenizerRead read_pre_tokenizer(const JsonFields& fields, const nlohmann::json* value);

/// Sets prefix and suffix. REQUIRES: the vocabulary is complete.
void read_post_processor(const JsonFields& fields, const nlohmann::json* value,
                         TokenizerParts& parts);

/// Sets decoder and strip_first_space.
void read_decoder(const JsonFields& fields, const nlohmann::json* value, TokenizerParts& parts);

}  // namespace headrace::text
