#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace headrace::text {

/// Spellings of tokens by id, and ids by spelling. Ids may have holes. Immutable once built;
/// thread-safe then.
class Vocabulary {
 public:
  Vocabulary() = default;
  Vocabulary(const Vocabulary&) = delete;
  Vocabulary& operator=(const Vocabulary&) = delete;
  Vocabulary(Vocabulary&&) = default;
  Vocabulary& operator=(Vocabulary&&) = default;

  /// Makes room for ids below what `count` entries may plausibly use. Call before add().
  void expect(size_t count);

  /// Error{kCorrupt} for a negative id, one far above the number of entries, one that is taken, or
  /// an empty piece. A piece that is already there under another id keeps the first id for find().
  void add(std::string_view piece, int64_t id);

  /// The largest id plus one.
  int32_t size() const { return static_cast<int32_t>(pieces_.size()); }
  bool contains(int32_t id) const { return id >= 0 && id < size(); }
  /// "" for a hole. REQUIRES: contains(id).
  const std::string& piece(int32_t id) const { return pieces_[static_cast<size_t>(id)]; }
  std::optional<int32_t> find(std::string_view piece) const;

 private:
  int64_t limit_ = 0;
  std::vector<std::string> pieces_;
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };
  std::unordered_map<std::string, int32_t, Hash, std::equal_to<>> ids_;
};

}  // namespace headrace::text
