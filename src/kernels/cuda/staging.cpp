#include "kernels/cuda/staging.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "kernels/cuda/cuda_check.h"

namespace headrace::cuda {
namespace {

constexpr size_t kAlignment = 256;
/// As much costs the host less to have copied by a kernel than by a copy of its own.
constexpr size_t kShortBytes = 256 << 10;

}  // namespace

Staging::Staging(Queue& queue) : queue_(queue) {
  void* memory = nullptr;
  check(cudaMallocHost(&memory, 2 * kHalfBytes), "allocating staging memory");
  memory_ = static_cast<std::byte*>(memory);
  for (cudaEvent_t& event : done_) {
    check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "creating an event");
    check(cudaEventRecord(event, queue_.interrupted()), "recording an event");
  }
}

Staging::~Staging() {
  for (const cudaEvent_t event : done_) cudaEventDestroy(event);
  cudaFreeHost(memory_);
}

std::span<std::byte> Staging::take(size_t size_bytes) {
  if (used_ + size_bytes > kHalfBytes) {
    send();
    check(cudaEventRecord(done_[half_], queue_.interrupted()), "recording an event");
    half_ = 1 - half_;
    used_ = 0;
    check(cudaEventSynchronize(done_[half_]), "uploading");
  }
  std::byte* const place = memory_ + static_cast<size_t>(half_) * kHalfBytes + used_;
  used_ += (size_bytes + kAlignment - 1) / kAlignment * kAlignment;
  return {place, size_bytes};
}

void Staging::upload(std::byte* to, std::span<const std::byte> from) {
  send();
  while (!from.empty()) {
    const std::span<std::byte> part = take(std::min(from.size(), kHalfBytes));
    std::memcpy(part.data(), from.data(), part.size());
    copy(to, part);
    to += part.size();
    from = from.subspan(part.size());
  }
}

void Staging::upload_rows(std::byte* to, size_t row_bytes, int64_t rows,
                          const Backend::RowWriter& write) {
  const auto most = static_cast<int64_t>(kHalfBytes / row_bytes);
  if (most == 0) {  // a row does not fit
    std::vector<std::byte> row(row_bytes);
    for (int64_t i = 0; i < rows; ++i, to += row_bytes) {
      write(i, row);
      upload(to, row);
    }
    return;
  }
  for (int64_t first = 0; first < rows; first += most) {
    const auto count = static_cast<size_t>(std::min(most, rows - first));
    const std::span<std::byte> part = take(count * row_bytes);
    write(first, part);
    copy_later(to + static_cast<size_t>(first) * row_bytes, part);
  }
}

void Staging::send() {
  if (waiting_.count > 0) copy_staged(std::exchange(waiting_, {}), queue_);
}

void Staging::copy(std::byte* to, std::span<const std::byte> staged) {
  check(cudaMemcpyAsync(to, staged.data(), staged.size(), cudaMemcpyHostToDevice,
                        queue_.interrupted()),
        "uploading");
}

void Staging::copy_later(std::byte* to, std::span<const std::byte> staged) {
  if (staged.size() > kShortBytes || reinterpret_cast<uintptr_t>(to) % sizeof(uint4) != 0) {
    send();
    return copy(to, staged);
  }
  if (waiting_.count == kMostStagedCopies || waits_for(to, staged.size())) send();
  waiting_.copies[waiting_.count++] = {
      .to = to, .from = staged.data(), .bytes = static_cast<int32_t>(staged.size())};
}

/// Whether a copy that waits goes to some of the same place.
bool Staging::waits_for(const std::byte* place, size_t size_bytes) const {
  const auto waiting = std::span(waiting_.copies).first(static_cast<size_t>(waiting_.count));
  return std::ranges::any_of(waiting, [&](const StagedCopies::Copy& copy) {
    return copy.to < place + size_bytes && place < copy.to + copy.bytes;
  });
}

}  // namespace headrace::cuda
