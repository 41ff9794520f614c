#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace headrace::text {

/// One learned merge: `left` and `right`, side by side, become `merged`. The lower `rank` goes
/// first.
struct Merge {
  int32_t left;
  int32_t right;
  int32_t merged;
};

/// Byte-pair encoding's merges, and how they are applied: again and again the adjacent pair of
/// lowest rank, the leftmost of equals, until none is left (Sennrich et al., 2016,
/// arXiv:1508.07909, section 3.2). Immutable; thread-safe.
class MergeTable {
 public:
  /// The rank of a merge is its index; of two merges of the same pair the later one counts.
  /// REQUIRES: ids are not negative.
  explicit MergeTable(std::span<const Merge> merges);

  /// Merges `ids` in place, shortening it. O(n log n), with about 20 bytes of memory for each id.
  void apply(std::vector<int32_t>& ids) const;

 private:
  static constexpr uint32_t kNoRank = std::numeric_limits<uint32_t>::max();
  struct Entry {
    uint64_t pair;
    uint32_t rank = kNoRank;  // kNoRank: an empty slot
    int32_t merged = 0;
  };
  struct Chain;

  size_t slot_of(int32_t left, int32_t right) const;
  const Entry& find(int32_t left, int32_t right) const { return slots_[slot_of(left, right)]; }
  void apply_short(std::vector<int32_t>& ids) const;
  void apply_long(std::vector<int32_t>& ids) const;

  std::vector<Entry> slots_;  // open addressing, a power of two of them
  int shift_ = 0;
};

}  // namespace headrace::text
