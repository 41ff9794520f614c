#include "stream/uring_link.h"

#include <cerrno>
#include <utility>

#include <liburing.h>
#include <sys/uio.h>

#include "base/error.h"

namespace headrace {
namespace {

constexpr uint64_t kWakeUp = ~uint64_t{0};  // user data of the request that only wakes wait()

}  // namespace

std::unique_ptr<UringLink> UringLink::open(const std::string& path, int depth, DirectMode mode,
                                           int& refused) {
  std::unique_ptr<UringLink> link(new UringLink(path, depth, mode));
  refused = link->set_up();
  return refused == 0 ? std::move(link) : nullptr;
}

UringLink::UringLink(const std::string& path, int depth, DirectMode mode)
    : file_(path, mode), depth_(depth), ring_(std::make_unique<io_uring>()) {
  reads_.resize(static_cast<size_t>(depth));
  for (size_t place = reads_.size(); place > 0; --place) free_places_.push_back(place - 1);
}

UringLink::~UringLink() {
  if (ring_ready_) io_uring_queue_exit(ring_.get());
}

int UringLink::set_up() {
  const auto entries = static_cast<unsigned>(depth_) + 2;  // reads, and requests to wake up
  if (const int result = io_uring_queue_init(entries, ring_.get(), 0); result < 0) return -result;
  ring_ready_ = true;
  io_uring_probe* probe = io_uring_get_probe_ring(ring_.get());
  const bool reads = probe != nullptr && io_uring_opcode_supported(probe, IORING_OP_READ) != 0;
  io_uring_free_probe(probe);
  if (!reads) return ENOSYS;  // Linux before 5.6
  const int fd = file_.fd();
  file_registered_ = io_uring_register_files(ring_.get(), &fd, 1) == 0;
  return 0;
}

std::string UringLink::description() const {
  return fmt::format("io_uring, {}, {} deep", file_.description(), depth_);
}

/// Registered memory saves pinning its pages for each read. It may be refused (RLIMIT_MEMLOCK):
/// then reads do without.
void UringLink::prepare(std::span<std::byte> memory) {
  HR_CHECK(in_flight_.load() == 0 && registered_memory_.empty());
  const iovec region{memory.data(), memory.size()};
  if (io_uring_register_buffers(ring_.get(), &region, 1) == 0) registered_memory_ = memory;
}

int UringLink::start(const Transfer& transfer) {
  const std::lock_guard lock(submit_mutex_);
  HR_CHECK(!stopped_.load() && !free_places_.empty());
  const size_t place = free_places_.back();
  reads_[place] = {.transfer = transfer};
  in_flight_.fetch_add(1);
  const int error = submit_read(place);
  if (error != 0) {
    in_flight_.fetch_sub(1);
  } else {
    free_places_.pop_back();
  }
  return error;
}

/// REQUIRES: submit_mutex_ is held.
int UringLink::submit_read(size_t place) {
  io_uring_sqe* entry = io_uring_get_sqe(ring_.get());
  HR_CHECK(entry != nullptr);  // the queue holds an entry for every place
  const std::span<std::byte> rest = reads_[place].rest();
  const uint64_t offset = reads_[place].rest_offset();
  const auto size = static_cast<unsigned>(rest.size());
  const int fd = file_registered_ ? 0 : file_.fd();
  const std::byte* const memory = registered_memory_.data();
  const bool fixed = !registered_memory_.empty() && rest.data() >= memory &&
                     rest.data() + rest.size() <= memory + registered_memory_.size();
  if (fixed) {
    io_uring_prep_read_fixed(entry, fd, rest.data(), size, offset, 0);
  } else {
    io_uring_prep_read(entry, fd, rest.data(), size, offset);
  }
  if (file_registered_) entry->flags |= IOSQE_FIXED_FILE;
  entry->user_data = place;
  int result;
  do {
    result = io_uring_submit(ring_.get());
  } while (result == -EINTR || result == -EAGAIN || result == -EBUSY);
  if (result >= 0) return 0;
  // The entry stays queued: make it harmless, the memory may be gone when it is submitted after
  // all.
  io_uring_prep_nop(entry);
  entry->user_data = kWakeUp;
  return -result;
}

size_t UringLink::wait(std::span<Completion> completions) {
  size_t count = 0;
  while (count == 0) {
    if (stopped_.load() && in_flight_.load() == 0) return 0;
    io_uring_cqe* entry = nullptr;
    const int result = io_uring_wait_cqe(ring_.get(), &entry);
    if (result == -EINTR || result == -EAGAIN) continue;
    if (result < 0) fail(ErrorCode::kIo, "[stream] io_uring wait failed with error {}", -result);
    while (count < completions.size() && io_uring_peek_cqe(ring_.get(), &entry) == 0) {
      const uint64_t place = entry->user_data;
      const int outcome = entry->res;
      io_uring_cqe_seen(ring_.get(), entry);
      if (place == kWakeUp) continue;
      const std::lock_guard lock(submit_mutex_);
      ReadProgress& read = reads_[place];
      auto next = read.advance(outcome, file_);
      if (next == ReadProgress::Next::kReadOn) {
        read.error = submit_read(place);
        if (read.error == 0) continue;
        next = ReadProgress::Next::kFailed;
      }
      completions[count++] = {read.transfer.tag, read.error};
      free_places_.push_back(place);
      in_flight_.fetch_sub(1);
    }
  }
  return count;
}

void UringLink::stop() {
  const std::lock_guard lock(submit_mutex_);
  if (stopped_.exchange(true)) return;
  submit_wake_up();
}

/// REQUIRES: submit_mutex_ is held.
void UringLink::submit_wake_up() {
  io_uring_sqe* entry = io_uring_get_sqe(ring_.get());
  HR_CHECK(entry != nullptr);
  io_uring_prep_nop(entry);
  entry->user_data = kWakeUp;
  int result;
  do {
    result = io_uring_submit(ring_.get());
  } while (result == -EINTR || result == -EAGAIN || result == -EBUSY);
}

}  // namespace headrace
