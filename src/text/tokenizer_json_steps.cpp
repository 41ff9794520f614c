#include "text/tokenizer_json_steps.h"

#include "base/error.h"

namespace headrace::text {
namespace {

using Json = nlohmann::json;

constexpr int kMaxDepth = 8;  // of sequences in sequences

[[noreturn]] void unsupported(const JsonFields& fields, const char* part, std::string_view type) {
  fail(ErrorCode::kUnsupported,
       "[tokenizer] {}: the {} '{}' is not supported: byte-level BPE is; token ids still work",
       fields.file(), part, type);
}

/// Calls `visit` for `value`, or for each member of the sequence that it is, in order.
template <typename Visit>
void for_each_step(const JsonFields& fields, const Json& value, const char* list, Visit visit,
                   int depth = 0) {
  if (depth > kMaxDepth) fields.corrupt("sequences are nested too deeply");
  if (fields.type(value) != "Sequence") {
    visit(value);
    return;
  }
  for (const Json& member : fields.array(value, list)) {
    for_each_step(fields, member, list, visit, depth + 1);
  }
}

/// A pattern {"String": s} or {"Regex": s}.
Regex read_pattern(const JsonFields& fields, const Json& rule) {
  const Json* pattern = fields.find(rule, "pattern");
  if (pattern == nullptr) fields.corrupt("'pattern' is missing");
  if (fields.find(*pattern, "Regex") != nullptr) return Regex(fields.text(*pattern, "Regex"));
  return Regex::literal(fields.text(*pattern, "String"));
}

SplitBehavior read_behavior(const JsonFields& fields, const Json& rule) {
  const std::string name = fields.text(rule, "behavior");
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  unsupported(fields, "split behavior", name);
}

Replace read_replace(const JsonFields& fields, const Json& rule, const char* part) {
  const Json* pattern = fields.find(rule, "pattern");
  if (pattern == nullptr || fields.find(*pattern, "String") == nullptr) {
    unsupported(fields, part, "Replace by a pattern");
  }
  Replace replace{.from = fields.text(*pattern, "String"), .to = fields.text(rule, "content")};
  if (replace.from.empty()) fields.corrupt("Replace has an empty pattern");
  return replace;
}

Normalizer::Step read_normalizer_step(const JsonFields& fields, const Json& rule) {
  const std::string type = fields.type(rule);
  if (type == "NFC") return UnicodeForm::kNfc;
  if (type == "NFD") return UnicodeForm::kNfd;
  if (type == "NFKC") return UnicodeForm::kNfkc;
  if (type == "NFKD") return UnicodeForm::kNfkd;
  if (type == "Prepend") return Prepend{fields.text(rule, "prepend")};
  if (type == "Replace") return read_replace(fields, rule, "normalizer");
  unsupported(fields, "normalizer", type);
}

MetaspaceStep read_metaspace(const JsonFields& fields, const Json& rule) {
  if (fields.text(rule, "replacement") != "\xE2\x96\x81") {
    unsupported(fields, "Metaspace replacement", fields.text(rule, "replacement"));
  }
  MetaspaceStep step;
  step.split = fields.flag_or(rule, "split", true);
  const bool add = fields.flag_or(rule, "add_prefix_space", true);
  const std::string scheme = fields.text_or(rule, "prepend_scheme", add ? "always" : "never");
  if (scheme == "never") {
    step.prepend = MetaspaceStep::Prepend::kNever;
  } else if (scheme == "first") {
    step.prepend = MetaspaceStep::Prepend::kFirst;
  } else if (scheme != "always") {
    unsupported(fields, "prepend_scheme", scheme);
  }
  return step;
}

void read_pre_tokenizer_step(const JsonFields& fields, const Json& rule, bool& byte_level,
                             std::vector<PreTokenizer::Step>& steps) {
  const std::string type = fields.type(rule);
  if (byte_level) unsupported(fields, "pre-tokenizer after ByteLevel", type);
  if (type == "ByteLevel") {
    byte_level = true;
    if (fields.flag_or(rule, "add_prefix_space", true)) steps.emplace_back(PrefixSpaceStep{});
    if (fields.flag_or(rule, "use_regex", true)) {
      steps.emplace_back(SplitStep{.regex = Regex(kByteLevelPattern)});
    }
  } else if (type == "Split") {
    steps.emplace_back(SplitStep{.regex = read_pattern(fields, rule),
                                 .behavior = read_behavior(fields, rule),
                                 .invert = fields.flag_or(rule, "invert", false)});
  } else if (type == "Digits") {
    steps.emplace_back(DigitsStep{.individual = fields.flag_or(rule, "individual_digits", false)});
  } else if (type == "Metaspace") {
    steps.emplace_back(read_metaspace(fields, rule));
  } else {
    unsupported(fields, "pre-tokenizer", type);
  }
}

/// Ids of one special token of a template, by its name in "special_tokens".
void append_template_ids(const JsonFields& fields, const Json& special_tokens,
                         const std::string& name, const Vocabulary& vocabulary,
                         std::vector<int32_t>& out) {
  const Json* token = fields.find(special_tokens, name.c_str());
  if (token == nullptr) fields.corrupt(fmt::format("the template's token '{}' is missing", name));
  for (const Json& item : fields.array(*token, "ids")) {
    const int64_t id = fields.as_integer(item, "ids");
    if (id < 0 || id >= vocabulary.size()) {
      fields.corrupt(fmt::format("the template's token {} is not in the vocabulary", id));
    }
    out.push_back(static_cast<int32_t>(id));
  }
}

void read_template(const JsonFields& fields, const Json& rule, TokenizerParts& parts) {
  const Json none = Json::object();
  const Json* special_tokens = fields.find(rule, "special_tokens");
  bool text_seen = false;
  for (const Json& item : fields.array(rule, "single")) {
    if (const Json* sequence = fields.find(item, "Sequence")) {
      if (text_seen || fields.text(*sequence, "id") != "A") {
        fields.corrupt("the template 'single' must have one sequence, A");
      }
      text_seen = true;
    } else if (const Json* token = fields.find(item, "SpecialToken")) {
      append_template_ids(fields, special_tokens == nullptr ? none : *special_tokens,
                          fields.text(*token, "id"), parts.vocabulary,
                          text_seen ? parts.suffix : parts.prefix);
    } else {
      fields.corrupt("a template item is neither Sequence nor SpecialToken");
    }
  }
  if (!text_seen) fields.corrupt("the template 'single' leaves the text out");
}

}  // namespace

Normalizer read_normalizer(const JsonFields& fields, const Json* value) {
  std::vector<Normalizer::Step> steps;
  if (value != nullptr) {
    for_each_step(fields, *value, "normalizers",
                  [&](const Json& rule) { steps.push_back(read_normalizer_step(fields, rule)); });
  }
  return Normalizer(std::move(steps));
}

PreTokenizerRead read_pre_tokenizer(const JsonFields& fields, const Json* value) {
  std::vector<PreTokenizer::Step> steps;
  bool byte_level = false;
  if (value != nullptr) {
    for_each_step(fields, *value, "pretokenizers", [&](const Json& rule) {
      read_pre_tokenizer_step(fields, rule, byte_level, steps);
    });
  }
  return {.pre_tokenizer = PreTokenizer(std::move(steps)), .byte_level = byte_level};
}

void read_post_processor(const JsonFields& fields, const Json* value, TokenizerParts& parts) {
  if (value == nullptr) return;
  bool seen = false;
  for_each_step(fields, *value, "processors", [&](const Json& rule) {
    const std::string type = fields.type(rule);
    if (type == "ByteLevel") return;  // changes offsets only
    if (type != "TemplateProcessing") unsupported(fields, "post-processor", type);
    if (seen) unsupported(fields, "post-processor", "a second TemplateProcessing");
    seen = true;
    read_template(fields, rule, parts);
  });
}

void read_decoder(const JsonFields& fields, const Json* value, TokenizerParts& parts) {
  if (value == nullptr) unsupported(fields, "decoder", "null");
  bool byte_level = false;
  bool sentence_piece = false;
  for_each_step(fields, *value, "decoders", [&](const Json& rule) {
    const std::string type = fields.type(rule);
    if (type == "ByteLevel") {
      byte_level = true;
    } else if (type == "Replace") {
      const Replace replace = read_replace(fields, rule, "decoder");
      if (replace.from != "\xE2\x96\x81" || replace.to != " ") {
        unsupported(fields, "decoder", "Replace of another character");
      }
      sentence_piece = true;
    } else if (type == "Metaspace") {
      sentence_piece = true;
      parts.strip_first_space =
          read_metaspace(fields, rule).prepend != MetaspaceStep::Prepend::kNever;
    } else if (type == "Strip") {
      if (fields.text(rule, "content") != " " || fields.integer(rule, "stop").value_or(0) != 0) {
        unsupported(fields, "decoder", "Strip of anything but leading spaces");
      }
      parts.strip_first_space = fields.integer(rule, "start").value_or(0) > 0;
    } else if (type != "ByteFallback" && type != "Fuse") {
      unsupported(fields, "decoder", type);
    }
  });
  if (byte_level == sentence_piece) unsupported(fields, "decoder", fields.type(*value));
  parts.decoder = byte_level ? DecoderKind::kByteLevel : DecoderKind::kSentencePiece;
}

}  // namespace headrace::text
