#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/bpe.h"
#include "text/vocabulary.h"

namespace headrace::text {

struct BpeOptions {
  bool byte_level = true;          // symbols are bytes, else characters
  bool ignore_merges = false;      // a word that is a token is that token, whatever the merges say
  bool byte_fallback = false;      // characters without a token become the tokens <0x00> to <0xFF>
  bool fuse_unknown = false;       // neighbouring unknown symbols become one token
  std::optional<int32_t> unknown;  // stands for symbols without a token; none: they are dropped
};

/// Token ids of one word (a piece that the pre-tokenizer cut). Immutable; thread-safe.
class BpeModel {
 public:
  BpeModel(const Vocabulary& vocabulary, std::span<const Merge> merges, const BpeOptions& options);

  /// Appends the word's ids to `out`. REQUIRES: valid UTF-8 unless byte_level.
  void encode(std::string_view word, std::vector<int32_t>& out) const;

 private:
  static constexpr int32_t kMissing = -1;
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };

  void append_characters(std::string_view word, std::vector<int32_t>& ids) const;
  bool append_fallback(std::string_view character, std::vector<int32_t>& ids) const;

  MergeTable merges_;
  BpeOptions options_;
  std::array<int32_t, 256> byte_ids_{};  // of a byte as a symbol, or as <0xNN>
  std::unordered_map<std::string, int32_t, Hash, std::equal_to<>> words_;       // ignore_merges
  std::unordered_map<std::string, int32_t, Hash, std::equal_to<>> characters_;  // not byte_level
};

/// Remembers the ids of words seen before; one encode() call owns it. Fixed size, the newest word
/// takes the slot.
class WordCache {
 public:
  explicit WordCache(const BpeModel& model) : model_(model) {}
  void encode(std::string_view word, std::vector<int32_t>& out);

 private:
  static constexpr size_t kSlots = 1 << 14;
  static constexpr size_t kMaxBytes = 23;
  static constexpr size_t kMaxIds = 7;
  struct Slot {
    uint8_t bytes = 0;  // 0: empty
    uint8_t count = 0;
    std::array<char, kMaxBytes> word;
    std::array<int32_t, kMaxIds> ids;
  };

  const BpeModel& model_;
  std::vector<Slot> slots_;  // allocated when the first kWarmUp words have passed
  static constexpr size_t kWarmUp = 512;
  size_t words_ = 0;
};

}  // namespace headrace::text
