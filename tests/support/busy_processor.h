#pragma once

#include <atomic>
#include <thread>
#include <vector>

#include "base/thread_pool.h"

namespace headrace::testing {

/// Threads that want all of one processor, as long as this lives: others that are bound to it
/// become slow.
class BusyProcessor {
 public:
  BusyProcessor(int processor, int threads) {
    for (int i = 0; i < threads; ++i) {
      threads_.emplace_back([this, processor] {
        bind_this_thread(processor);
        while (!stop_) {
        }
      });
    }
  }
  ~BusyProcessor() {
    stop_ = true;
    for (std::thread& thread : threads_) thread.join();
  }
  BusyProcessor(const BusyProcessor&) = delete;
  BusyProcessor& operator=(const BusyProcessor&) = delete;

 private:
  std::atomic<bool> stop_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace headrace::testing
