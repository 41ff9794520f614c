#pragma once

#include <cstdint>
#include <deque>
#include <iterator>
#include <utility>
#include <vector>

#include "base/mutex.h"

namespace headrace {

/// The last few records of a kind, until they are fetched. Thread-safe.
template <typename Record>
class StatsHistory {
 public:
  /// Keeps `most` records; 0: none.
  explicit StatsHistory(int64_t most) : most_(static_cast<size_t>(most)) {}

  bool wanted() const { return most_ > 0; }

  void add(Record record) {
    if (!wanted()) return;
    const MutexLock lock(mutex_);
    if (records_.size() == most_) records_.pop_front();
    records_.push_back(std::move(record));
  }

  /// Those since the last call, oldest first.
  std::vector<Record> take() {
    const MutexLock lock(mutex_);
    std::vector<Record> taken(std::make_move_iterator(records_.begin()),
                              std::make_move_iterator(records_.end()));
    records_.clear();
    return taken;
  }

 private:
  const size_t most_;
  Mutex mutex_;
  std::deque<Record> records_ HR_GUARDED_BY(mutex_);
};

}  // namespace headrace
