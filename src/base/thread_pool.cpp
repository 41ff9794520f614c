#include "base/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include <sched.h>

#include "base/error.h"

namespace headrace {
namespace {

/// About 50 us of polling: longer than the gap between two steps of a pass, short enough that an
/// idle pool sleeps.
constexpr int kSpins = 2000;

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

}  // namespace

struct ThreadPool::State {
  explicit State(int threads) : size(threads) {}

  void work(int thread);
  void call(int thread);
  void end();

  const int size;
  std::atomic<uint64_t> epoch{0};  // raised once per run()
  std::atomic<int> pending{0};     // workers that have not finished the current run
  std::atomic<bool> stop{false};
  std::atomic<int64_t> next{0};  // parallel_for's counter
  const ThreadFunction* function = nullptr;
  std::mutex mutex;
  std::condition_variable start;
  int sleepers = 0;          // guarded by mutex
  std::exception_ptr error;  // guarded by mutex
  std::vector<std::thread> workers;
};

void ThreadPool::State::call(int thread) {
  try {
    (*function)(thread);
  } catch (...) {
    const std::lock_guard lock(mutex);
    if (!error) error = std::current_exception();
  }
}

void ThreadPool::State::work(int thread) {
  uint64_t seen = 0;
  while (true) {
    for (int spin = 0; spin < kSpins && epoch.load(std::memory_order_acquire) == seen; ++spin) {
      relax();
    }
    if (epoch.load(std::memory_order_acquire) == seen) {
      std::unique_lock lock(mutex);
      ++sleepers;
      start.wait(lock, [&] { return epoch.load(std::memory_order_acquire) != seen; });
      --sleepers;
    }
    ++seen;
    if (stop.load(std::memory_order_acquire)) return;
    call(thread);
    pending.fetch_sub(1, std::memory_order_acq_rel);
  }
}

void ThreadPool::State::end() {
  stop.store(true, std::memory_order_release);
  {
    const std::lock_guard lock(mutex);
    epoch.fetch_add(1, std::memory_order_acq_rel);
  }
  start.notify_all();
  for (std::thread& worker : workers) worker.join();
}

ThreadPool::ThreadPool(int threads) {
  if (threads < 1) {
    fail(ErrorCode::kInvalidArgument, "[threads] {} threads cannot work: use 1 or more", threads);
  }
  state_ = std::make_unique<State>(threads);
  state_->workers.reserve(static_cast<size_t>(threads) - 1);
  for (int thread = 1; thread < threads; ++thread) {
    try {
      state_->workers.emplace_back([state = state_.get(), thread] { state->work(thread); });
    } catch (const std::system_error& error) {
      state_->end();
      fail(
          ErrorCode::kOutOfMemory,
          "[threads] the system refuses thread {} of {} ({}): use --threads {} or raise its limits",
          thread + 1, threads, error.what(), thread);
    }
  }
}

ThreadPool::~ThreadPool() { state_->end(); }

int ThreadPool::size() const { return state_->size; }

void ThreadPool::run(ThreadFunction function) {
  State& state = *state_;
  if (state.size == 1) {
    function(0);
    return;
  }
  state.function = &function;
  state.pending.store(state.size - 1, std::memory_order_relaxed);
  bool wake = false;
  {
    const std::lock_guard lock(state.mutex);
    state.epoch.fetch_add(1, std::memory_order_acq_rel);
    wake = state.sleepers > 0;
  }
  if (wake) state.start.notify_all();
  state.call(0);
  for (int spin = 0; state.pending.load(std::memory_order_acquire) != 0; ++spin) {
    if (spin < kSpins) {
      relax();
    } else {
      std::this_thread::yield();
    }
  }
  std::exception_ptr error;
  {
    const std::lock_guard lock(state.mutex);
    error = std::exchange(state.error, nullptr);
  }
  if (error) std::rethrow_exception(error);
}

int64_t ThreadPool::next_piece(int64_t grain) {
  return state_->next.fetch_add(grain, std::memory_order_relaxed);
}

void ThreadPool::reset_pieces() { state_->next.store(0, std::memory_order_relaxed); }

std::vector<int> usable_processors() {
  std::vector<int> processors;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return processors;
  for (int processor = 0; processor < CPU_SETSIZE; ++processor) {
    if (CPU_ISSET(processor, &set)) processors.push_back(processor);
  }
  return processors;
}

void bind_this_thread(int processor) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(processor, &set);
  ::sched_setaffinity(0, sizeof set, &set);
}

int available_processors() { return std::max(1, static_cast<int>(usable_processors().size())); }

}  // namespace headrace
