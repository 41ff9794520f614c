#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "text/added_tokens.h"
#include "text/bpe_model.h"
#include "text/normalizer.h"
#include "text/pre_tokenizer.h"
#include "text/vocabulary.h"

namespace headrace::text {

/// How ids become text again.
enum class DecoderKind {
  kByteLevel,      // pieces spell bytes in the byte alphabet
  kSentencePiece,  // U+2581 is a space, <0xNN> a byte
};

/// Everything that defines a tokenizer, whatever file it came from. Loaders fill it; Tokenizer runs
/// it.
struct TokenizerParts {
  Vocabulary vocabulary;
  std::vector<Merge> merges;
  BpeOptions bpe;
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  std::vector<AddedToken> added;
  std::vector<int32_t> prefix;  // ids that the post-processor puts before the text
  std::vector<int32_t> suffix;  // and after it
  DecoderKind decoder = DecoderKind::kByteLevel;
  bool strip_first_space = false;  // of a decoded text (SentencePiece)
  std::optional<int32_t> bos;
  std::optional<int32_t> eos;
  std::optional<int32_t> pad;
  std::vector<int32_t> more_stop_ids;  // of generation_config.json
  std::string chat_template;
};

/// GPT-2's pattern, which byte-level tokenizers use unless they say otherwise.
inline constexpr const char* kByteLevelPattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

}  // namespace headrace::text
