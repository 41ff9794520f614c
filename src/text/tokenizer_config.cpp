#include "text/tokenizer_config.h"

#include "base/error.h"
#include "text/json_fields.h"

namespace headrace::text {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kMaxConfigBytes = 64 << 20;
constexpr uint64_t kMaxTemplateBytes = 1 << 20;

/// A special token's id: its text, alone or as {"content": text}, looked up in the vocabulary.
void read_token(const JsonFields& fields, const Json& config, const char* key,
                const Vocabulary& vocabulary, std::optional<int32_t>& id) {
  if (id) return;
  const Json* value = fields.find(config, key);
  if (value == nullptr) return;
  const std::string text =
      value->is_object() ? fields.text(*value, "content") : fields.as_text(*value, key);
  id = vocabulary.find(text);
}

void read_id(const JsonFields& fields, const Json& config, const char* key,
             const Vocabulary& vocabulary, std::optional<int32_t>& id) {
  const Json* value = fields.find(config, key);
  if (id || value == nullptr || !value->is_number_integer()) return;
  const int64_t number = fields.as_integer(*value, key);
  if (number >= 0 && number < vocabulary.size()) id = static_cast<int32_t>(number);
}

void read_special_tokens(FileSystem& fs, const std::string& path, TokenizerParts& parts) {
  if (!fs.exists(path)) return;
  const Json config = read_json_object(fs, path, kMaxConfigBytes);
  const JsonFields fields(path);
  read_token(fields, config, "bos_token", parts.vocabulary, parts.bos);
  read_token(fields, config, "eos_token", parts.vocabulary, parts.eos);
  read_token(fields, config, "pad_token", parts.vocabulary, parts.pad);
}

void read_special_ids(FileSystem& fs, const std::string& path, TokenizerParts& parts) {
  if (!fs.exists(path)) return;
  const Json config = read_json_object(fs, path, kMaxConfigBytes);
  const JsonFields fields(path);
  read_id(fields, config, "bos_token_id", parts.vocabulary, parts.bos);
  read_id(fields, config, "eos_token_id", parts.vocabulary, parts.eos);
  read_id(fields, config, "pad_token_id", parts.vocabulary, parts.pad);
}

/// "chat_template" is a text, or a list of {"name", "template"} of which "default" is taken.
std::string template_in(const JsonFields& fields, const Json& config) {
  const Json* value = fields.find(config, "chat_template");
  if (value == nullptr) return "";
  if (!value->is_array()) return fields.as_text(*value, "chat_template");
  for (const Json& named : *value) {
    if (fields.text(named, "name") == "default") return fields.text(named, "template");
  }
  return "";
}

void read_chat_template(FileSystem& fs, const std::string& dir, TokenizerParts& parts) {
  const std::string own_file = join_path(dir, "chat_template.jinja");
  const std::string config_file = join_path(dir, "tokenizer_config.json");
  if (fs.exists(own_file)) {
    parts.chat_template = read_text_file(fs, own_file, kMaxTemplateBytes);
  } else if (fs.exists(config_file)) {
    parts.chat_template =
        template_in(JsonFields(config_file), read_json_object(fs, config_file, kMaxConfigBytes));
  }
}

}  // namespace

void read_generation_config(FileSystem& fs, const std::string& dir, TokenizerParts& parts) {
  const std::string path = join_path(dir, "generation_config.json");
  if (!fs.exists(path)) return;
  const Json config = read_json_object(fs, path, kMaxConfigBytes);
  const JsonFields fields(path);
  const Json* value = fields.find(config, "eos_token_id");
  if (value == nullptr) return;
  for (const Json& item : value->is_array() ? *value : Json::array({*value})) {
    const int64_t id = fields.as_integer(item, "eos_token_id");
    if (id < 0 || id >= parts.vocabulary.size()) {
      fields.corrupt(fmt::format("'eos_token_id' {} is not in the vocabulary", id));
    }
    parts.more_stop_ids.push_back(static_cast<int32_t>(id));
  }
}

void read_tokenizer_config(FileSystem& fs, const std::string& dir, TokenizerParts& parts) {
  read_special_tokens(fs, join_path(dir, "tokenizer_config.json"), parts);
  read_special_tokens(fs, join_path(dir, "special_tokens_map.json"), parts);
  read_special_ids(fs, join_path(dir, "generation_config.json"), parts);
  read_special_ids(fs, join_path(dir, "config.json"), parts);
  read_generation_config(fs, dir, parts);
  read_chat_template(fs, dir, parts);
}

}  // namespace headrace::text
