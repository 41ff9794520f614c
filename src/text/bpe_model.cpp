#include "text/bpe_model.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "text/byte_level.h"
#include "text/unicode.h"

namespace headrace::text {

BpeModel::BpeModel(const Vocabulary& vocabulary, std::span<const Merge> merges,
                   const BpeOptions& options)
    : merges_(merges), options_(options) {
  const ByteAlphabet alphabet;
  for (size_t byte = 0; byte < byte_ids_.size(); ++byte) {
    const char c = static_cast<char>(byte);
    const std::string piece =
        options.byte_level ? alphabet.spell({&c, 1}) : fmt::format("<0x{:02X}>", byte);
    byte_ids_[byte] = vocabulary.find(piece).value_or(kMissing);
  }
  for (int32_t id = 0; id < vocabulary.size(); ++id) {
    const std::string& piece = vocabulary.piece(id);
    if (piece.empty() || vocabulary.find(piece) != id) continue;
    if (options.ignore_merges) {
      const auto word = options.byte_level ? alphabet.bytes(piece) : piece;
      if (word) words_.emplace(*word, id);
    }
    if (!options.byte_level && utf8_length(piece[0]) == piece.size()) characters_[piece] = id;
  }
}

void BpeModel::encode(std::string_view word, std::vector<int32_t>& out) const {
  if (options_.ignore_merges) {
    const auto found = words_.find(word);
    if (found != words_.end()) {
      out.push_back(found->second);
      return;
    }
  }
  std::vector<int32_t> ids;
  ids.reserve(word.size());
  append_characters(word, ids);
  merges_.apply(ids);
  out.insert(out.end(), ids.begin(), ids.end());
}

void BpeModel::append_characters(std::string_view word, std::vector<int32_t>& ids) const {
  bool last_was_unknown = false;
  while (!word.empty()) {
    const size_t length =
        options_.byte_level ? 1 : std::min(utf8_length(word.front()), word.size());
    const std::string_view character = word.substr(0, length);
    word.remove_prefix(length);
    int32_t id = kMissing;
    if (options_.byte_level) {
      id = byte_ids_[static_cast<uint8_t>(character[0])];
    } else if (const auto found = characters_.find(character); found != characters_.end()) {
      id = found->second;
    } else if (options_.byte_fallback && append_fallback(character, ids)) {
      last_was_unknown = false;
      continue;
    }
    const bool unknown = id == kMissing;
    if (!unknown) {
      ids.push_back(id);
    } else if (options_.unknown && !(options_.fuse_unknown && last_was_unknown)) {
      ids.push_back(*options_.unknown);
    }
    last_was_unknown = unknown;
  }
}

bool BpeModel::append_fallback(std::string_view character, std::vector<int32_t>& ids) const {
  const auto id_of = [this](char c) { return byte_ids_[static_cast<uint8_t>(c)]; };
  const bool all =
      std::all_of(character.begin(), character.end(), [&](char c) { return id_of(c) != kMissing; });
  if (all) std::transform(character.begin(), character.end(), std::back_inserter(ids), id_of);
  return all;
}

void WordCache::encode(std::string_view word, std::vector<int32_t>& out) {
  if (word.empty() || word.size() > kMaxBytes || (slots_.empty() && ++words_ < kWarmUp)) {
    model_.encode(word, out);
    return;
  }
  if (slots_.empty()) slots_.resize(kSlots);
  Slot& slot = slots_[std::hash<std::string_view>()(word) % kSlots];
  if (slot.bytes == word.size() && std::memcmp(slot.word.data(), word.data(), word.size()) == 0) {
    out.insert(out.end(), slot.ids.begin(), slot.ids.begin() + slot.count);
    return;
  }
  const size_t before = out.size();
  model_.encode(word, out);
  const size_t count = out.size() - before;
  if (count > kMaxIds) return;
  slot.bytes = static_cast<uint8_t>(word.size());
  slot.count = static_cast<uint8_t>(count);
  std::copy(word.begin(), word.end(), slot.word.begin());
  std::copy(out.begin() + static_cast<std::ptrdiff_t>(before), out.end(), slot.ids.begin());
}

}  // namespace headrace::text
