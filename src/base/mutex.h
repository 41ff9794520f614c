#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

// What Clang's -Wthread-safety checks; nothing to other compilers.
#if defined(__clang__)
#define HR_THREAD_ANNOTATION(x) __attribute__((x))
#else
#define HR_THREAD_ANNOTATION(x)
#endif

/// The data may be touched only while the mutex is held.
#define HR_GUARDED_BY(mutex) HR_THREAD_ANNOTATION(guarded_by(mutex))
/// The caller holds the mutex.
#define HR_REQUIRES(...) HR_THREAD_ANNOTATION(requires_capability(__VA_ARGS__))
/// The caller does not hold the mutex.
#define HR_EXCLUDES(...) HR_THREAD_ANNOTATION(locks_excluded(__VA_ARGS__))

namespace headrace {

/// std::mutex, annotated.
class HR_THREAD_ANNOTATION(capability("mutex")) Mutex {
 public:
  void lock() HR_THREAD_ANNOTATION(acquire_capability()) { mutex_.lock(); }
  void unlock() HR_THREAD_ANNOTATION(release_capability()) { mutex_.unlock(); }

 private:
  std::mutex mutex_;
};

/// Holds a Mutex for a scope.
class HR_THREAD_ANNOTATION(scoped_lockable) MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) HR_THREAD_ANNOTATION(acquire_capability(mutex)) : mutex_(mutex) {
    mutex_.lock();
  }
  ~MutexLock() HR_THREAD_ANNOTATION(release_capability()) { mutex_.unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

/// std::condition_variable for a Mutex. Wakes without cause, too: wait in a loop.
class CondVar {
 public:
  void wait(Mutex& mutex) HR_REQUIRES(mutex) { condition_.wait(mutex); }
  /// False if `until` has passed.
  bool wait_until(Mutex& mutex, std::chrono::steady_clock::time_point until) HR_REQUIRES(mutex) {
    return condition_.wait_until(mutex, until) == std::cv_status::no_timeout;
  }
  void notify_all() { condition_.notify_all(); }

 private:
  std::condition_variable_any condition_;
};

}  // namespace headrace
