#include "text/tokenizer_gguf.h"

#include <algorithm>
#include <string_view>

#include "base/error.h"
#include "text/json_fields.h"
#include "text/tokenizer_config.h"

namespace headrace::text {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kMaxFileBytes = 256 << 20;
constexpr int64_t kControl = 3;  // GGUF's token types
constexpr int64_t kUserDefined = 4;

constexpr const char* kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";

enum class Family { kGpt2, kDigits, kLlama3, kQwen2 };

struct PreName {
  std::string_view name;
  Family family;
};

// Names that GGUF files use for pre-tokenizers of the same behaviour.
constexpr PreName kPreNames[] = {
    {"", Family::kGpt2},
    {"default", Family::kGpt2},
    {"gpt-2", Family::kGpt2},
    {"gpt2", Family::kGpt2},
    {"phi-2", Family::kGpt2},
    {"olmo", Family::kGpt2},
    {"mpt", Family::kGpt2},
    {"smollm", Family::kDigits},
    {"starcoder", Family::kDigits},
    {"refact", Family::kDigits},
    {"codeshell", Family::kDigits},
    {"command-r", Family::kDigits},
    {"llama-bpe", Family::kLlama3},
    {"llama3", Family::kLlama3},
    {"llama-v3", Family::kLlama3},
    {"qwen2", Family::kQwen2},
    {"deepseek-r1-qwen", Family::kQwen2},
};

Family family_of(const JsonFields& fields, const std::string& pre) {
  const auto* found = std::find_if(std::begin(kPreNames), std::end(kPreNames),
                                   [&](const PreName& known) { return known.name == pre; });
  if (found == std::end(kPreNames)) {
    fail(ErrorCode::kUnsupported,
         "[tokenizer] {}: the pre-tokenizer '{}' is not supported: gpt-2, llama-bpe, qwen2 and "
         "smollm are; token ids still work",
         fields.file(), pre);
  }
  return found->family;
}

PreTokenizer make_pre_tokenizer(Family family, bool prefix_space) {
  std::vector<PreTokenizer::Step> steps;
  if (family == Family::kDigits) steps.emplace_back(DigitsStep{.individual = true});
  if (prefix_space) steps.emplace_back(PrefixSpaceStep{});
  const char* pattern = kByteLevelPattern;
  if (family == Family::kLlama3) pattern = kLlama3Pattern;
  if (family == Family::kQwen2) pattern = kQwen2Pattern;
  steps.emplace_back(SplitStep{.regex = Regex(pattern)});
  return PreTokenizer(std::move(steps));
}

void fill_vocabulary(const JsonFields& fields, const Json& root, TokenizerParts& parts) {
  const Json& tokens = fields.array(root, "tokens");
  if (tokens.empty()) fields.corrupt("'tokens' is empty");
  const Json* types = fields.find(root, "token_types");
  if (types != nullptr && (!types->is_array() || types->size() != tokens.size())) {
    fields.corrupt("'token_types' and 'tokens' differ in length");
  }
  parts.vocabulary.expect(tokens.size());
  for (size_t i = 0; i < tokens.size(); ++i) {
    const std::string& piece = fields.as_text(tokens[i], "tokens");
    if (piece.empty()) continue;
    const auto id = static_cast<int32_t>(i);
    parts.vocabulary.add(piece, id);
    const int64_t type = types == nullptr ? 1 : fields.as_integer((*types)[i], "token_types");
    if (type != kControl && type != kUserDefined) continue;
    AddedToken token;
    token.content = piece;
    token.id = id;
    token.special = type == kControl;
    parts.added.push_back(std::move(token));
  }
}

void fill_merges(const JsonFields& fields, const Json& root, TokenizerParts& parts) {
  const Json& merges = fields.array(root, "merges");
  parts.merges.reserve(merges.size());
  for (const Json& item : merges) {
    const std::string_view merge = fields.as_text(item, "merges");
    const size_t space = merge.find(' ', 1);
    if (space == std::string_view::npos) {
      fields.corrupt(fmt::format("the merge '{}' is not 'left right'", merge));
    }
    const std::string left(merge.substr(0, space));
    const std::string right(merge.substr(space + 1));
    const auto id_of = [&](const std::string& piece) {
      const auto id = parts.vocabulary.find(piece);
      if (!id)
        fields.corrupt(fmt::format("the merge '{}' makes no token of the vocabulary", merge));
      return *id;
    };
    parts.merges.push_back(
        {.left = id_of(left), .right = id_of(right), .merged = id_of(left + right)});
  }
}

std::optional<int32_t> special_id(const JsonFields& fields, const Json& root, const char* key,
                                  const Vocabulary& vocabulary) {
  const auto id = fields.integer(root, key);
  if (!id) return std::nullopt;
  if (*id < 0 || *id >= vocabulary.size()) {
    fields.corrupt(fmt::format("'{}' {} is not in the vocabulary", key, *id));
  }
  return static_cast<int32_t>(*id);
}

}  // namespace

TokenizerParts load_tokenizer_gguf(FileSystem& fs, const std::string& dir) {
  const std::string path = join_path(dir, kTokenizerGgufName);
  const JsonFields fields(path);
  const Json root = read_json_object(fs, path, kMaxFileBytes);
  if (fields.text_or(root, "format", "") != "headrace-gguf-tokenizer") {
    fields.corrupt("'format' is not headrace-gguf-tokenizer");
  }
  const std::string model = fields.text_or(root, "model", "");
  if (model != "gpt2") {
    fail(
        ErrorCode::kUnsupported,
        "[tokenizer] {}: the GGUF tokenizer model '{}' is not supported: gpt2 (byte-level BPE) is; "
        "token ids still work",
        path, model);
  }
  const Family family = family_of(fields, fields.text_or(root, "pre", ""));

  TokenizerParts parts;
  fill_vocabulary(fields, root, parts);
  fill_merges(fields, root, parts);
  if (family == Family::kQwen2) parts.normalizer = Normalizer({UnicodeForm::kNfc});
  parts.pre_tokenizer = make_pre_tokenizer(family, fields.flag_or(root, "add_space_prefix", false));
  parts.bpe.ignore_merges = family == Family::kLlama3;
  parts.bos = special_id(fields, root, "bos_token_id", parts.vocabulary);
  parts.eos = special_id(fields, root, "eos_token_id", parts.vocabulary);
  parts.pad = special_id(fields, root, "padding_token_id", parts.vocabulary);
  const bool add_bos = fields.flag_or(root, "add_bos_token", family == Family::kLlama3);
  if (add_bos && parts.bos) parts.prefix.push_back(*parts.bos);
  if (fields.flag_or(root, "add_eos_token", false) && parts.eos) parts.suffix.push_back(*parts.eos);
  parts.chat_template = fields.text_or(root, "chat_template", "");
  read_generation_config(fs, dir, parts);
  return parts;
}

}  // namespace headrace::text
