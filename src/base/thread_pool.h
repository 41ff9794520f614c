#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>
#include <vector>

namespace headrace {

/// Non-owning reference to a callable void(int thread); valid while the callable lives.
class ThreadFunction {
 public:
  template <typename F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, ThreadFunction>)
  ThreadFunction(F&& function)  // NOLINT(google-explicit-constructor): an argument type
      : object_(const_cast<void*>(static_cast<const void*>(&function))),
        call_([](void* object, int thread) {
          (*static_cast<std::remove_reference_t<F>*>(object))(thread);
        }) {}
  void operator()(int thread) const { call_(object_, thread); }

 private:
  void* object_;
  void (*call_)(void*, int);
};

/// A fixed team of threads that run one function at a time, together. Made for many short steps: a
/// worker spins for a moment after each step before it sleeps. run() may be called from one thread
/// at a time; the caller takes part as thread 0.
class ThreadPool {
 public:
  /// `threads` counts the caller; 1 starts no thread at all. Below 1 is Error{kInvalidArgument}.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const;

  /// Calls function(thread) once for every thread in [0, size()) and returns when all have ended.
  /// An exception thrown by any of them is rethrown here (the first, if several).
  void run(ThreadFunction function);

  /// Splits [0, count) into pieces of `grain` units that threads take in turn, and calls
  /// body(begin, end) for each. Which thread takes which piece is not determined.
  template <typename F>
  void parallel_for(int64_t count, int64_t grain, F&& body);

 private:
  struct State;
  int64_t next_piece(int64_t grain);
  void reset_pieces();

  std::unique_ptr<State> state_;
};

template <typename F>
void ThreadPool::parallel_for(int64_t count, int64_t grain, F&& body) {
  if (count <= 0) return;
  if (size() == 1 || count <= grain) {
    body(int64_t{0}, count);
    return;
  }
  reset_pieces();
  run([&](int) {
    for (int64_t begin = next_piece(grain); begin < count; begin = next_piece(grain)) {
      body(begin, begin + grain < count ? begin + grain : count);
    }
  });
}

/// The processors that this process may use (its affinity mask), in order; empty if the system does
/// not say.
std::vector<int> usable_processors();
/// How many they are, at least 1.
int available_processors();
/// Keeps the calling thread on a processor; where the system refuses, it stays as it is.
void bind_this_thread(int processor);

}  // namespace headrace
