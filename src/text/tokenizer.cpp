#include "text/tokenizer.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/error.h"
#include "text/byte_level.h"
#include "text/tokenizer_gguf.h"
#include "text/tokenizer_json.h"
#include "text/tokenizer_parts.h"
#include "text/unicode.h"

namespace headrace {

using text::AddedToken;
using text::AddedTokens;

namespace {

constexpr std::string_view kMetaspace = "\xE2\x96\x81";  // U+2581

// What chat templates end a turn with.
constexpr const char* kTurnEnds[] = {"<|im_end|>", "<|eot_id|>", "<|end_of_turn|>", "<end_of_turn>",
                                     "<|end|>",    "<|eom_id|>", "<|endofturn|>",   "<|return|>"};

AddedTokens select(const std::vector<AddedToken>& all, bool normalized,
                   const text::Normalizer& normalizer) {
  std::vector<AddedToken> chosen;
  for (AddedToken token : all) {
    if (token.normalized != normalized) continue;
    if (normalized) token.content = normalizer.apply(token.content);
    chosen.push_back(std::move(token));
  }
  return AddedTokens(std::move(chosen));
}

/// The byte that a piece such as "<0x0A>" stands for.
std::optional<char> byte_piece(std::string_view piece) {
  if (piece.size() != 6 || !piece.starts_with("<0x") || piece[5] != '>') return std::nullopt;
  const auto digit = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
  };
  const int high = digit(piece[3]);
  const int low = digit(piece[4]);
  if (high < 0 || low < 0) return std::nullopt;
  return static_cast<char>(high * 16 + low);
}

}  // namespace

struct Tokenizer::Impl {
  explicit Impl(text::TokenizerParts given)
      : parts(std::move(given)),
        model(parts.vocabulary, parts.merges, parts.bpe),
        raw_tokens(select(parts.added, false, parts.normalizer)),
        normalized_tokens(select(parts.added, true, parts.normalizer)),
        special(static_cast<size_t>(parts.vocabulary.size())) {
    parts.merges = {};  // the model has its own table of them
    for (const AddedToken& token : parts.added) {
      if (token.special) special[static_cast<size_t>(token.id)] = true;
    }
    add_stop_ids();
    if (!parts.chat_template.empty()) parse_chat_template();
  }

  /// A template that is not understood is an error only for those who use it.
  void parse_chat_template() {
    try {
      chat = std::make_unique<ChatTemplate>(parts.chat_template, piece_or_empty(parts.bos),
                                            piece_or_empty(parts.eos));
    } catch (const Error& error) {
      chat_error = error;
    }
  }

  std::string piece_or_empty(std::optional<int32_t> id) const {
    return id ? parts.vocabulary.piece(*id) : "";
  }

  void add_stop_ids() {
    const auto add = [this](int32_t id) {
      if (std::find(stop_ids.begin(), stop_ids.end(), id) == stop_ids.end()) stop_ids.push_back(id);
    };
    if (parts.eos) add(*parts.eos);
    for (const int32_t id : parts.more_stop_ids) add(id);
    for (const char* name : kTurnEnds) {
      if (parts.chat_template.find(name) == std::string::npos) continue;
      const auto id = parts.vocabulary.find(name);
      if (id && special[static_cast<size_t>(*id)]) add(*id);
    }
  }

  void check(int32_t id) const {
    if (parts.vocabulary.contains(id)) return;
    fail(ErrorCode::kInvalidArgument, "[tokenizer] {} is not a token id: they go from 0 to {}", id,
         parts.vocabulary.size() - 1);
  }

  text::TokenizerParts parts;
  text::BpeModel model;
  AddedTokens raw_tokens;         // sought in the text as it is
  AddedTokens normalized_tokens;  // sought in the normalized text
  std::vector<bool> special;      // by id
  std::vector<int32_t> stop_ids;
  text::ByteAlphabet alphabet;
  std::unique_ptr<const ChatTemplate> chat;
  std::optional<Error> chat_error;  // why `chat` is missing though there is a template
};

bool Tokenizer::exists(FileSystem& fs, const std::string& dir) {
  return fs.exists(join_path(dir, text::kTokenizerJsonName)) ||
         fs.exists(join_path(dir, text::kTokenizerGgufName));
}

std::unique_ptr<Tokenizer> Tokenizer::load(FileSystem& fs, const std::string& dir) {
  const bool json = fs.exists(join_path(dir, text::kTokenizerJsonName));
  if (!json && !exists(fs, dir)) {
    fail(ErrorCode::kNotFound,
         "[tokenizer] {} has no tokenizer: a folder with {} or {} would work, and token ids work "
         "without",
         dir, text::kTokenizerJsonName, text::kTokenizerGgufName);
  }
  auto parts = json ? text::load_tokenizer_json(fs, dir) : text::load_tokenizer_gguf(fs, dir);
  return std::unique_ptr<Tokenizer>(new Tokenizer(std::make_unique<const Impl>(std::move(parts))));
}

Tokenizer::Tokenizer(std::unique_ptr<const Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::~Tokenizer() = default;

std::vector<int32_t> Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  if (text.size() > std::numeric_limits<int32_t>::max()) {
    fail(ErrorCode::kInvalidArgument, "[tokenizer] a text of {} bytes: at most {} at once",
         text.size(), std::numeric_limits<int32_t>::max());
  }
  std::string repaired;
  if (!text::is_valid_utf8(text)) {
    repaired = text::repair_utf8(text);
    text = repaired;
  }
  const Impl& impl = *impl_;
  std::vector<int32_t> ids;
  if (options.add_special_tokens) ids = impl.parts.prefix;
  text::WordCache cache(impl.model);
  text::PreTokenizer::Run pre_tokenizer(impl.parts.pre_tokenizer,
                                        [&](std::string_view word) { cache.encode(word, ids); });
  const auto on_token = [&](int32_t id) { ids.push_back(id); };
  const bool skip_special = !options.parse_special;
  impl.raw_tokens.split(
      text, skip_special,
      [&](std::string_view raw) {
        const bool at_start = raw.data() == text.data();
        std::string changed;
        if (!impl.parts.normalizer.empty()) changed = impl.parts.normalizer.apply(raw);
        const std::string_view segment = impl.parts.normalizer.empty() ? raw : changed;
        impl.normalized_tokens.split(
            segment, skip_special,
            [&](std::string_view piece) {
              pre_tokenizer.split(piece, at_start && piece.data() == segment.data());
            },
            on_token);
      },
      on_token);
  if (options.add_special_tokens) {
    ids.insert(ids.end(), impl.parts.suffix.begin(), impl.parts.suffix.end());
  }
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  std::string bytes;
  bool first = true;
  for (const int32_t id : ids) {
    impl_->check(id);
    if (skip_special && is_special(id)) continue;
    append_bytes(id, first, bytes);
    first = false;
  }
  return text::repair_utf8(bytes);
}

void Tokenizer::append_bytes(int32_t id, bool first, std::string& out) const {
  impl_->check(id);
  const std::string& piece = impl_->parts.vocabulary.piece(id);
  if (impl_->parts.decoder == text::DecoderKind::kByteLevel) {
    const auto bytes = impl_->alphabet.bytes(piece);
    out += bytes ? *bytes : piece;
    return;
  }
  if (const auto byte = byte_piece(piece)) {
    out += *byte;
    return;
  }
  std::string text = text::replace_all(piece, {.from = std::string(kMetaspace), .to = " "});
  if (first && impl_->parts.strip_first_space && text.starts_with(' ')) text.erase(0, 1);
  out += text;
}

std::string Tokenizer::piece(int32_t id) const {
  impl_->check(id);
  return impl_->parts.vocabulary.piece(id);
}

int32_t Tokenizer::vocab_size() const { return impl_->parts.vocabulary.size(); }
std::optional<int32_t> Tokenizer::bos_id() const { return impl_->parts.bos; }
std::optional<int32_t> Tokenizer::eos_id() const { return impl_->parts.eos; }
std::optional<int32_t> Tokenizer::pad_id() const { return impl_->parts.pad; }

bool Tokenizer::is_special(int32_t id) const {
  impl_->check(id);
  return impl_->special[static_cast<size_t>(id)];
}

std::optional<int32_t> Tokenizer::find(std::string_view piece) const {
  return impl_->parts.vocabulary.find(piece);
}

const std::vector<int32_t>& Tokenizer::stop_ids() const { return impl_->stop_ids; }
const std::string& Tokenizer::chat_template() const { return impl_->parts.chat_template; }

std::string Tokenizer::apply_chat_template(const std::vector<ChatMessage>& messages,
                                           const ChatOptions& options) const {
  if (impl_->chat_error) throw *impl_->chat_error;
  if (impl_->chat == nullptr) {
    fail(ErrorCode::kInvalidArgument,
         "[tokenizer] the model has no chat template: leave --chat out");
  }
  return impl_->chat->render(messages, options);
}

}  // namespace headrace
