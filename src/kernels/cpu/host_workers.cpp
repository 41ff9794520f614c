#include "kernels/host_workers.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/thread_pool.h"
#include "kernels/cpu/coded_kernels.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/host_job.h"
#include "kernels/cpu/host_multiplier.h"

namespace headrace {
namespace {

constexpr uint32_t kQueue = 1024;  // products: several passes of a large model
// What a thread fetches into its cache while it waits for x: as much as comes from memory while a
// device is busy between two products.
constexpr int64_t kMostAheadBytes = 512 * 1024;

/// Polls quickly at first; then others may have the core for a moment.
class Poll {
 public:
  void wait() {
    if (++polls_ > kQuickPolls) {
      std::this_thread::yield();
      return;
    }
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }
  bool is_quick() const { return polls_ <= kQuickPolls; }
  bool is_long() const { return polls_ > kPollsAwake; }

 private:
  static constexpr int kQuickPolls = 2000;  // about 50 us
  static constexpr int kPollsAwake = 6000;  // about 1 ms; then a thread without a product sleeps
  int polls_ = 0;
};

int64_t now_ns() {
  return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

uint32_t load_counter(uint32_t& counter) { return std::atomic_ref(counter).load(); }

/// Counters wrap; a lead of less than half their range is one.
bool reached(uint32_t counter, uint32_t number) {
  return static_cast<int32_t>(counter - number) >= 0;
}

class PinnedWorkers : public HostWorkers {
 public:
  PinnedWorkers(int threads, int64_t max_k, const cpu::CpuKernels& kernels, HostMeetings& meetings)
      : kernels_(kernels),
        max_k_(max_k),
        meetings_(meetings),
        first_(meetings.done + 1),
        jobs_(kQueue),
        enqueued_(meetings.done),
        abandoned_(meetings.done) {
    for (int i = 0; i < threads; ++i) owns_.push_back(make_own(static_cast<uint32_t>(i)));
    caller_ = make_own(static_cast<uint32_t>(threads));
    start_threads();
  }
  ~PinnedWorkers() override {
    abandon();
    end_threads();
  }

  int threads() const override { return static_cast<int>(owns_.size()); }
  uint32_t enqueue(const HostProduct& product) override;
  void lend_a_hand(const std::function<bool()>& no_x_comes) override;
  void abandon() override;
  HostWork work() const override {
    return {.products = products_.load(),
            .waited_for = waited_for_.load(),
            .weight_bytes = weight_bytes_.load(),
            .busy_ns = busy_ns_.load(),
            .waited_ns = waited_ns_.load()};
  }

 private:
  /// What a thread keeps for itself.
  struct Own {
    HostMultiplier multiplier;
    uint32_t prepared_for;       // its x is of the product of this number
    uint32_t index = 0;          // of the thread
    std::atomic<uint32_t> left;  // it has nothing to do with products up to this one any more
    const std::function<bool()>* no_x_comes = nullptr;  // null: abandon() says so
  };

  /// Of one wait for x.
  struct Patience {
    Poll poll;
    bool in_vain = false;  // no_x_comes has said so
  };

  std::unique_ptr<Own> make_own(uint32_t index) const;
  void start_threads();
  void run(int core, Own& own);
  void end_threads();
  bool wait_for_job(uint32_t number, Own& own);
  void wait_until_left(uint32_t number) const;
  void give_up();
  bool is_abandoned(uint32_t number) const;
  bool is_over(uint32_t number) const;
  bool has_x(uint32_t number);
  void wait_for_x(uint32_t number, Own& own);
  void wait_a_moment(const Own& own, Patience& patience);
  void help(uint32_t number, Own& own);
  static uint32_t unsettled_piece(const HostJob& job, uint32_t number, const Own& own);
  void run_product(uint32_t number, Own& own);
  void fetch(uint32_t number, HostPieces pieces);
  void show_progress(uint32_t number, const HostJob& job, uint32_t taken);
  void run_pieces(uint32_t number, HostPieces pieces, Own& own);
  void prepare_x(const HostProduct& product, uint32_t number, Own& own);
  void begin(HostJob& job, uint32_t number, Own& own);
  void do_batch(HostJob& job, HostPieces batch, uint32_t number, const Own& own);
  void finish(HostJob& job, uint32_t number);
  void publish_done();
  void wake();
  HostJob& job_at(uint32_t number) { return jobs_[number % kQueue]; }

  const cpu::CpuKernels& kernels_;
  const int64_t max_k_;
  HostMeetings& meetings_;
  const uint32_t first_;  // product
  std::vector<HostJob> jobs_;
  std::atomic<uint32_t> enqueued_;
  std::atomic<uint32_t> abandoned_;  // products up to this one need no x
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> products_{0};
  std::atomic<uint64_t> waited_for_{0};
  std::atomic<uint64_t> weight_bytes_{0};
  std::atomic<int64_t> busy_ns_{0};
  std::atomic<int64_t> waited_ns_{0};
  std::atomic<int64_t> last_end_ns_{0};  // of a product
  std::mutex mutex_;
  std::condition_variable woken_;
  std::atomic<int> sleepers_{0};
  std::vector<std::unique_ptr<Own>> owns_;  // by thread
  std::unique_ptr<Own> caller_;             // of lend_a_hand()
  std::vector<std::thread> threads_;
};

uint32_t PinnedWorkers::enqueue(const HostProduct& product) {
  HR_CHECK(product.tokens >= 1 && product.tokens <= kMostHostTokens && product.k <= max_k_);
  const uint32_t number = enqueued_.load(std::memory_order_relaxed) + 1;
  wait_until_left(number - kQueue);
  // It must not fall behind by half of what a number can count.
  if (!reached(abandoned_.load(std::memory_order_relaxed), number - kQueue)) {
    abandoned_.store(number - kQueue, std::memory_order_release);
  }
  HostJob& job = job_at(number);
  job.set(product, number, threads() + 1);  // the caller takes pieces, too
  job.enqueued_ns = now_ns();
  enqueued_.store(number);
  if (sleepers_.load() > 0) wake();
  return number;
}

void PinnedWorkers::lend_a_hand(const std::function<bool()>& no_x_comes) {
  caller_->no_x_comes = &no_x_comes;
  const uint32_t last = enqueued_.load();
  for (uint32_t number = load_counter(meetings_.done); number != last;) {
    run_product(++number, *caller_);
  }
  caller_->no_x_comes = nullptr;
}

void PinnedWorkers::abandon() {
  give_up();
  wait_until_left(enqueued_.load());
}

void PinnedWorkers::give_up() { abandoned_.store(enqueued_.load(), std::memory_order_release); }

/// Until no thread has anything to do any more with products up to this one, which are over: who
/// helps says so first (Own::left) and looks then whether they are.
void PinnedWorkers::wait_until_left(uint32_t number) const {
  for (Poll poll; !is_over(number);) poll.wait();
  for (const auto& own : owns_) {
    for (Poll poll; !reached(own->left.load(), number);) poll.wait();
  }
}

void PinnedWorkers::wake() {
  {
    const std::lock_guard lock(mutex_);
  }
  woken_.notify_all();
}

std::unique_ptr<PinnedWorkers::Own> PinnedWorkers::make_own(uint32_t index) const {
  const cpu::FewTokens few = {.kernels = kernels_,
                              .coded = *cpu::coded_kernels_for(detect_cpu_isa()).front()};
  return std::unique_ptr<Own>(new Own{.multiplier = HostMultiplier(few, max_k_),
                                      .prepared_for = first_ - 1,
                                      .index = index,
                                      .left = first_ - 1});
}

void PinnedWorkers::start_threads() {
  const std::vector<int> cores = usable_processors();
  try {
    for (size_t i = 0; i < owns_.size(); ++i) {
      // The first core is left to the thread that enqueues.
      const int core = cores.empty() ? -1 : cores[(i + 1) % cores.size()];
      threads_.emplace_back([this, core, i] { run(core, *owns_[i]); });
    }
  } catch (const std::system_error& error) {
    end_threads();
    fail(ErrorCode::kOutOfMemory,
         "[threads] the system refuses host thread {} of {} ({}): use --host_threads {} or raise "
         "its limits",
         threads_.size() + 1, owns_.size(), error.what(), threads_.size());
  }
}

void PinnedWorkers::end_threads() {
  stop_.store(true);
  wake();
  for (std::thread& thread : threads_) thread.join();
}

void PinnedWorkers::run(int core, Own& own) {
  if (core >= 0) bind_this_thread(core);
  for (uint32_t number = first_; wait_for_job(number, own); ++number) {
    run_product(number, own);
    own.left.store(number);
  }
}

/// False when there is nothing to do any more.
bool PinnedWorkers::wait_for_job(uint32_t number, Own& own) {
  for (Poll poll; !poll.is_long() || !is_over(number - 1); poll.wait()) {
    if (reached(enqueued_.load(std::memory_order_acquire), number)) return true;
    if (stop_.load(std::memory_order_relaxed)) return false;
    help(number - 1, own);
  }
  std::unique_lock lock(mutex_);
  sleepers_.fetch_add(1);
  woken_.wait(lock, [&] { return reached(enqueued_.load(), number) || stop_.load(); });
  sleepers_.fetch_sub(1);
  return reached(enqueued_.load(), number);
}

bool PinnedWorkers::is_abandoned(uint32_t number) const {
  return reached(abandoned_.load(std::memory_order_acquire), number);
}

/// Whether the device may have gone on to later products.
bool PinnedWorkers::is_over(uint32_t number) const {
  return reached(load_counter(meetings_.done), number);
}

/// Whether x of a product of which the caller has pieces begins to be there, or never will.
bool PinnedWorkers::has_x(uint32_t number) {
  return load_word(job_at(number).product.x[0]).number == number || is_abandoned(number) ||
         is_over(number);
}

void PinnedWorkers::run_product(uint32_t number, Own& own) {
  HostJob& job = job_at(number);
  for (HostPieces pieces; !(pieces = job.take()).empty();) {
    if (!has_x(number)) {
      fetch(number, pieces);
      wait_for_x(number, own);
    }
    show_progress(number, job, pieces.begin);
    run_pieces(number, pieces, own);
  }
}

/// Tells the device where it is worth while to look, as pieces from `taken` on begin.
void PinnedWorkers::show_progress(uint32_t number, const HostJob& job, uint32_t taken) {
  const HostWord now = {static_cast<uint32_t>(job.rows_done_before(taken)), number};
  const std::atomic_ref progress(meetings_.progress);
  HostWord last = progress.load(std::memory_order_relaxed);
  while ((last.number == number ? last.bits < now.bits : !reached(last.number, number)) &&
         !progress.compare_exchange_weak(last, now, std::memory_order_relaxed)) {
  }
}

/// Brings the weights of pieces into this core's cache until x comes.
void PinnedWorkers::fetch(uint32_t number, HostPieces pieces) {
  constexpr int64_t kStep = 4096;
  int64_t left = kMostAheadBytes;
  job_at(number).for_runs(pieces, [&](const WeightRun& run, int64_t begin, int64_t rows) {
    const auto stride = static_cast<int64_t>(run.row_stride_bytes);
    const int64_t bytes = std::min(rows * stride, left);
    left -= bytes;
    for (int64_t at = 0; at < bytes && !has_x(number); at += kStep) {
      const std::byte* const from = run.data + begin * stride + at;
      for (int64_t i = 0; i < std::min(kStep, bytes - at); i += 64) {
        __builtin_prefetch(from + i, 0, 2);
      }
    }
  });
}

/// Others may be held up, where the system gives their cores away, while all wait for what they
/// have taken: who has nothing else to do multiplies that, too.
void PinnedWorkers::wait_for_x(uint32_t number, Own& own) {
  for (Patience patience; !has_x(number);) {
    wait_a_moment(own, patience);
    help(number - 1, own);
  }
}

/// REQUIRES: the caller has looked for x since the last time. If no_x_comes has said then that it
/// is in vain, all is given up. It is asked only after some time: asking is slow.
void PinnedWorkers::wait_a_moment(const Own& own, Patience& patience) {
  if (patience.in_vain) give_up();
  patience.in_vain = own.no_x_comes != nullptr && !patience.poll.is_quick() && (*own.no_x_comes)();
  patience.poll.wait();
}

/// Multiplies pieces of a product that others have taken and not ended.
void PinnedWorkers::help(uint32_t number, Own& own) {
  if (is_over(number)) return;
  own.left.store(number - 1);
  while (!is_over(number) && has_x(number)) {
    HostJob& job = job_at(number);
    const uint32_t piece = unsettled_piece(job, number, own);
    if (piece == job.pieces) break;
    begin(job, number, own);
    do_batch(job, {piece, piece + 1}, number, own);
  }
  own.left.store(number);
}

/// One of those that nobody has ended, for each thread another if there are enough; job.pieces if
/// there is none.
uint32_t PinnedWorkers::unsettled_piece(const HostJob& job, uint32_t number, const Own& own) {
  const auto next_from = [&](uint32_t piece) { return job.unsettled_from(piece, number); };
  uint32_t count = 0;
  for (uint32_t piece = next_from(0); piece < job.pieces; piece = next_from(piece + 1)) ++count;
  if (count == 0) return job.pieces;
  uint32_t found = next_from(0);
  for (uint32_t i = 0; i < own.index % count; ++i) found = next_from(found + 1);
  return found;
}

void PinnedWorkers::run_pieces(uint32_t number, HostPieces pieces, Own& own) {
  HostJob& job = job_at(number);
  begin(job, number, own);
  for (HostPieces batch; !(batch = job.next_batch(pieces, number)).empty();) {
    do_batch(job, batch, number, own);
    pieces.begin = batch.end;
  }
}

/// Gets the thread's x ready, and says when the product began, if nobody has.
void PinnedWorkers::begin(HostJob& job, uint32_t number, Own& own) {
  if (own.prepared_for != number) prepare_x(job.product, number, own);
  if (job.begin_ns.load(std::memory_order_relaxed) != 0) return;
  const int64_t last_end = last_end_ns_.load(std::memory_order_relaxed);
  const int64_t now = now_ns();
  int64_t not_begun = 0;
  if (!job.begin_ns.compare_exchange_strong(not_begun, now, std::memory_order_relaxed)) return;
  if (job.enqueued_ns < last_end) {
    waited_ns_.fetch_add(std::max<int64_t>(0, now - last_end), std::memory_order_relaxed);
  }
}

/// Whatever its x was: once the product is over, all its pieces are settled. Who is held up between
/// settling pieces and handing them over, the stores of a batch, is still waited for.
void PinnedWorkers::do_batch(HostJob& job, HostPieces batch, uint32_t number, const Own& own) {
  const bool needed = !is_abandoned(number);
  if (needed) own.multiplier.multiply(job, batch);
  const uint32_t mine = job.settle(batch, number);
  if (mine == 0) return;
  if (needed) own.multiplier.hand_over(job, batch, mine, number);
  if (job.end_pieces(batch, mine)) finish(job, number);
}

/// Waits for every word of x; not when it is too late for that.
void PinnedWorkers::prepare_x(const HostProduct& product, uint32_t number, Own& own) {
  Patience patience;
  own.multiplier.prepare_x(product, number, [&] {
    if (is_abandoned(number) || is_over(number)) return false;
    wait_a_moment(own, patience);
    return true;
  });
  own.prepared_for = number;
}

void PinnedWorkers::finish(HostJob& job, uint32_t number) {
  products_.fetch_add(1, std::memory_order_relaxed);
  if (load_counter(meetings_.arrived) == number) {
    waited_for_.fetch_add(1, std::memory_order_relaxed);
  }
  weight_bytes_.fetch_add(job.bytes, std::memory_order_relaxed);
  const int64_t now = now_ns();
  busy_ns_.fetch_add(now - job.begin_ns.load(std::memory_order_relaxed), std::memory_order_relaxed);
  last_end_ns_.store(now, std::memory_order_relaxed);
  job.ended.store(number);
  publish_done();
}

/// Products end in order. Whoever ends one goes on with those that have ended before their turn.
void PinnedWorkers::publish_done() {
  const std::atomic_ref done(meetings_.done);
  uint32_t last = done.load();
  while (job_at(last + 1).ended.load() == last + 1) {
    if (done.compare_exchange_strong(last, last + 1)) ++last;
  }
}

}  // namespace

void give_x(const HostProduct& product, uint32_t number, const std::byte* x) {
  const size_t row_bytes = static_cast<size_t>(product.k) * dtype_size(product.dtype);
  const size_t words = words_of_x(product.k, product.dtype);
  auto* to = const_cast<HostWord*>(product.x);
  for (int64_t t = 0; t < product.tokens; ++t, x += row_bytes) {
    for (size_t i = 0; i < words; ++i) {
      uint32_t bits = 0;
      std::memcpy(&bits, x + i * sizeof(bits),
                  std::min(sizeof(bits), row_bytes - i * sizeof(bits)));
      std::atomic_ref(*to++).store({.bits = bits, .number = number}, std::memory_order_relaxed);
    }
  }
}

std::unique_ptr<HostWorkers> make_host_workers(int threads, int64_t max_k, HostMeetings& meetings) {
  return std::make_unique<PinnedWorkers>(threads, max_k, cpu::best_kernels(), meetings);
}

}  // namespace headrace
