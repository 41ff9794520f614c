#include "text/bpe.h"

#include <algorithm>
#include <array>
#include <bit>

#include "base/error.h"

namespace headrace::text {
namespace {

constexpr size_t kShort = 48;  // up to here a scan for the best pair beats a heap

uint64_t pair_of(int32_t left, int32_t right) {
  return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
}

}  // namespace

MergeTable::MergeTable(std::span<const Merge> merges) {
  const size_t capacity = std::bit_ceil(std::max<size_t>(merges.size() * 2, 16));
  slots_.resize(capacity);
  shift_ = 64 - std::countr_zero(capacity);
  for (uint32_t rank = 0; rank < merges.size(); ++rank) {
    const Merge& merge = merges[rank];
    HR_CHECK(merge.left >= 0 && merge.right >= 0 && merge.merged >= 0);
    slots_[slot_of(merge.left, merge.right)] = {
        .pair = pair_of(merge.left, merge.right), .rank = rank, .merged = merge.merged};
  }
}

size_t MergeTable::slot_of(int32_t left, int32_t right) const {
  const uint64_t pair = pair_of(left, right);
  size_t slot = (pair * 0x9E3779B97F4A7C15u) >> shift_;
  while (slots_[slot].rank != kNoRank && slots_[slot].pair != pair) {
    slot = (slot + 1) & (slots_.size() - 1);
  }
  return slot;
}

void MergeTable::apply(std::vector<int32_t>& ids) const {
  if (ids.size() < 2) return;
  if (ids.size() <= kShort) {
    apply_short(ids);
  } else {
    apply_long(ids);
  }
}

void MergeTable::apply_short(std::vector<int32_t>& ids) const {
  std::array<uint32_t, kShort> ranks;  // of the pair that begins at each index
  std::array<int32_t, kShort> merged;
  const auto look_up = [&](size_t i) {
    const Entry& entry = find(ids[i], ids[i + 1]);
    ranks[i] = entry.rank;
    merged[i] = entry.merged;
  };
  size_t n = ids.size();
  for (size_t i = 0; i + 1 < n; ++i) look_up(i);
  while (n > 1) {
    const auto tokens = static_cast<ptrdiff_t>(n);
    const ptrdiff_t at =
        std::min_element(ranks.begin(), ranks.begin() + tokens - 1) - ranks.begin();
    const auto best = static_cast<size_t>(at);
    if (ranks[best] == kNoRank) break;
    ids[best] = merged[best];
    std::copy(ids.begin() + at + 2, ids.begin() + tokens, ids.begin() + at + 1);
    std::copy(ranks.begin() + at + 1, ranks.begin() + tokens - 1, ranks.begin() + at);
    std::copy(merged.begin() + at + 1, merged.begin() + tokens - 1, merged.begin() + at);
    --n;
    if (best > 0) look_up(best - 1);
    if (best + 1 < n) look_up(best);
  }
  ids.resize(n);
}

/// The ids as a doubly linked list over their first indices.
struct MergeTable::Chain {
  static constexpr uint32_t kEnd = std::numeric_limits<uint32_t>::max();
  static constexpr int32_t kGone = -1;

  explicit Chain(std::vector<int32_t>& ids) : ids(ids), links(ids.size()) {
    for (uint32_t i = 0; i < ids.size(); ++i) links[i] = {i - 1, i + 1};
    links.front().previous = kEnd;
    links.back().next = kEnd;
  }

  struct Link {
    uint32_t previous;
    uint32_t next;
  };
  std::vector<int32_t>& ids;
  std::vector<Link> links;
};

void MergeTable::apply_long(std::vector<int32_t>& ids) const {
  HR_CHECK(ids.size() < Chain::kEnd);
  struct Candidate {
    uint32_t rank;
    uint32_t position;
  };
  const auto later = [](const Candidate& a, const Candidate& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
  };
  Chain chain(ids);
  std::vector<Candidate> heap;
  const auto candidate_at = [&](uint32_t left) {
    const uint32_t right = chain.links[left].next;
    return Candidate{right == Chain::kEnd ? kNoRank : find(ids[left], ids[right]).rank, left};
  };
  for (uint32_t i = 0; i + 1 < ids.size(); ++i) {
    const Candidate candidate = candidate_at(i);
    if (candidate.rank != kNoRank) heap.push_back(candidate);
  }
  std::make_heap(heap.begin(), heap.end(), later);
  const auto push = [&](uint32_t position) {
    const Candidate candidate = candidate_at(position);
    if (candidate.rank == kNoRank) return;
    heap.push_back(candidate);
    std::push_heap(heap.begin(), heap.end(), later);
  };
  while (!heap.empty()) {
    const Candidate best = heap.front();
    std::pop_heap(heap.begin(), heap.end(), later);
    heap.pop_back();
    const uint32_t left = best.position;
    if (ids[left] == Chain::kGone || candidate_at(left).rank != best.rank) continue;  // outdated
    const uint32_t right = chain.links[left].next;
    ids[left] = find(ids[left], ids[right]).merged;
    ids[right] = Chain::kGone;
    const uint32_t after = chain.links[right].next;
    chain.links[left].next = after;
    if (after != Chain::kEnd) {
      chain.links[after].previous = left;
      push(left);
    }
    if (chain.links[left].previous != Chain::kEnd) push(chain.links[left].previous);
  }
  std::erase(ids, Chain::kGone);
}

}  // namespace headrace::text
