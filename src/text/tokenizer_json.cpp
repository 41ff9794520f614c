#include "text/tokenizer_json.h"

#include <string_view>
#include <utility>

#include "base/error.h"
#include "text/json_fields.h"
#include "text/tokenizer_config.h"
#include "text/tokenizer_json_steps.h"

namespace headrace::text {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kMaxTokenizerBytes = 256 << 20;

/// Takes "model"."vocab" and "model"."merges" out of the stream of JSON events, so that they never
/// exist as a tree: in large vocabularies that tree would take ten times the file's size.
class ModelTables {
 public:
  std::vector<std::pair<std::string, int64_t>> vocabulary;
  std::vector<std::pair<std::string, std::string>> merges;
  std::string problem;  // the first thing that is not as it should be

  /// nlohmann's parser callback: false drops what was just parsed.
  bool on_event(int depth, Json::parse_event_t event, const Json& parsed) {
    using Event = Json::parse_event_t;
    if (event == Event::key && depth <= 2) {
      (depth == 1 ? member_ : model_member_) = parsed.get_ref<const std::string&>();
      return true;
    }
    if (member_ != "model" || depth < 3) return true;
    if (model_member_ == "vocab") return on_vocabulary(depth, event, parsed);
    if (model_member_ == "merges") return on_merges(depth, event, parsed);
    return true;
  }

 private:
  bool on_vocabulary(int depth, Json::parse_event_t event, const Json& parsed) {
    using Event = Json::parse_event_t;
    if (event == Event::key && depth == 3) {
      token_ = parsed.get_ref<const std::string&>();
      return false;
    }
    if (event == Event::value && depth == 3 && parsed.is_number_integer()) {
      vocabulary.emplace_back(std::move(token_), parsed.get<int64_t>());
    } else if (problem.empty()) {
      problem = "'vocab' must map texts to ids";
    }
    return true;  // a value whose key was dropped is dropped too
  }

  bool on_merges(int depth, Json::parse_event_t event, const Json& parsed) {
    using Event = Json::parse_event_t;
    if (depth > 3 || event == Event::array_start) return true;
    if (event == Event::value && parsed.is_string()) {
      const auto& merge = parsed.get_ref<const std::string&>();
      const size_t space = merge.find(' ');
      if (space != std::string::npos && merge.find(' ', space + 1) == std::string::npos) {
        merges.emplace_back(merge.substr(0, space), merge.substr(space + 1));
        return false;
      }
    } else if (event == Event::array_end && parsed.size() == 2 && parsed[0].is_string() &&
               parsed[1].is_string()) {
      merges.emplace_back(parsed[0].get<std::string>(), parsed[1].get<std::string>());
      return false;
    }
    if (problem.empty()) problem = "a merge is neither 'left right' nor [left, right]";
    return false;
  }

  std::string member_;
  std::string model_member_;
  std::string token_;
};

Json parse_tokenizer(FileSystem& fs, const std::string& path, ModelTables& tables) {
  const std::string content = read_text_file(fs, path, kMaxTokenizerBytes);
  const JsonFields fields(path);
  Json root = Json::parse(
      content,
      [&](int depth, Json::parse_event_t event, Json& parsed) {
        return tables.on_event(depth, event, parsed);
      },
      false);
  if (!root.is_object()) fields.corrupt("not a JSON object");
  if (!tables.problem.empty()) fields.corrupt(tables.problem);
  return root;
}

void check_model(const JsonFields& fields, const Json& model) {
  const std::string type = fields.text_or(model, "type", "BPE");
  if (type != "BPE") {
    fail(ErrorCode::kUnsupported,
         "[tokenizer] {}: the model '{}' is not supported: byte-level BPE is; token ids still work",
         fields.file(), type);
  }
  for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!fields.text_or(model, affix, "").empty()) {
      fail(ErrorCode::kUnsupported,
           "[tokenizer] {}: a BPE model with '{}' is not supported; token ids still work",
           fields.file(), affix);
    }
  }
  const Json* dropout = fields.find(model, "dropout");
  if (dropout != nullptr && !(dropout->is_number() && dropout->get<double>() == 0)) {
    fail(ErrorCode::kUnsupported,
         "[tokenizer] {}: BPE with dropout gives random ids; set 'dropout' to null", fields.file());
  }
}

void fill_merges(const JsonFields& fields, const ModelTables& tables, TokenizerParts& parts) {
  const auto id_of = [&](const std::string& piece) {
    const auto id = parts.vocabulary.find(piece);
    if (!id)
      fields.corrupt(fmt::format("a merge uses '{}', which is not in the vocabulary", piece));
    return *id;
  };
  parts.merges.reserve(tables.merges.size());
  for (const auto& [left, right] : tables.merges) {
    parts.merges.push_back(
        {.left = id_of(left), .right = id_of(right), .merged = id_of(left + right)});
  }
}

AddedToken read_added_token(const JsonFields& fields, const Json& item) {
  AddedToken token;
  token.content = fields.text(item, "content");
  token.special = fields.flag_or(item, "special", false);
  token.single_word = fields.flag_or(item, "single_word", false);
  token.lstrip = fields.flag_or(item, "lstrip", false);
  token.rstrip = fields.flag_or(item, "rstrip", false);
  token.normalized = fields.flag_or(item, "normalized", !token.special);
  return token;
}

/// A token that the model knows already keeps the model's id.
void fill_added_tokens(const JsonFields& fields, const Json& root, TokenizerParts& parts) {
  if (fields.find(root, "added_tokens") == nullptr) return;
  for (const Json& item : fields.array(root, "added_tokens")) {
    AddedToken token = read_added_token(fields, item);
    if (token.content.empty()) continue;
    std::optional<int32_t> id = parts.vocabulary.find(token.content);
    if (!id) {
      parts.vocabulary.add(token.content, fields.integer(item, "id").value_or(-1));
      id = parts.vocabulary.find(token.content);
    }
    token.id = *id;
    parts.added.push_back(std::move(token));
  }
}

}  // namespace

TokenizerParts load_tokenizer_json(FileSystem& fs, const std::string& dir) {
  const std::string path = join_path(dir, kTokenizerJsonName);
  const JsonFields fields(path);
  ModelTables tables;
  const Json root = parse_tokenizer(fs, path, tables);
  const Json* model = fields.find(root, "model");
  if (model == nullptr) fields.corrupt("'model' is missing");
  check_model(fields, *model);

  TokenizerParts parts;
  const Json* added = fields.find(root, "added_tokens");
  parts.vocabulary.expect(tables.vocabulary.size() + (added == nullptr ? 0 : added->size()));
  for (const auto& [piece, id] : tables.vocabulary) {
    if (!piece.empty()) parts.vocabulary.add(piece, id);
  }
  if (parts.vocabulary.size() == 0) fields.corrupt("the vocabulary is empty");
  fill_merges(fields, tables, parts);
  fill_added_tokens(fields, root, parts);

  parts.normalizer = read_normalizer(fields, fields.find(root, "normalizer"));
  PreTokenizerRead pre = read_pre_tokenizer(fields, fields.find(root, "pre_tokenizer"));
  parts.pre_tokenizer = std::move(pre.pre_tokenizer);
  parts.bpe = {.byte_level = pre.byte_level,
               .ignore_merges = fields.flag_or(*model, "ignore_merges", false),
               .byte_fallback = fields.flag_or(*model, "byte_fallback", false),
               .fuse_unknown = fields.flag_or(*model, "fuse_unk", false),
               .unknown = parts.vocabulary.find(fields.text_or(*model, "unk_token", ""))};
  read_post_processor(fields, fields.find(root, "post_processor"), parts);
  read_decoder(fields, fields.find(root, "decoder"), parts);
  read_tokenizer_config(fs, dir, parts);
  return parts;
}

}  // namespace headrace::text
