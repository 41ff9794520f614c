#include <algorithm>
#include <array>
#include <memory>
#include <vector>

#include "base/clock.h"
#include "base/file.h"
#include "device/buffer.h"
#include "profile/measure.h"
#include "stream/disk_link.h"

namespace headrace {
namespace {

constexpr uint64_t kPageBytes = 4096;

/// Keeps a link busy with reads of a file, piece after piece.
class BareReader {
 public:
  BareReader(Link& link, uint64_t file_bytes, const ReadMeasurement& measurement)
      : link_(link),
        file_bytes_(file_bytes - file_bytes % kPageBytes),
        piece_bytes_(
            std::clamp(measurement.piece_bytes / kPageBytes * kPageBytes, kPageBytes, file_bytes_)),
        memory_(allocate_host(piece_bytes_ * static_cast<uint64_t>(measurement.depth),
                              "measurement of the disk")) {
    // Now, so that the link is measured and not the system handing out pages.
    std::ranges::fill(memory_.bytes(), std::byte{0});
    link.prepare(memory_.bytes());
  }

  bool start(uint32_t slot) {
    const uint64_t size = std::min(piece_bytes_, file_bytes_ - next_);
    const Transfer transfer{
        .offset = next_, .to = {memory_.data() + slot * piece_bytes_, size}, .tag = slot};
    next_ = next_ + size == file_bytes_ ? 0 : next_ + size;
    sizes_[slot] = size;
    return link_.start(transfer) == 0;
  }
  uint64_t size(uint32_t slot) const { return sizes_[slot]; }

 private:
  Link& link_;
  const uint64_t file_bytes_;
  const uint64_t piece_bytes_;
  const Buffer memory_;
  uint64_t next_ = 0;
  std::array<uint64_t, 64> sizes_{};
};

}  // namespace

double measure_read_gbps(const std::string& path, const StreamOptions& options,
                         const ReadMeasurement& measurement, Context& context) {
  const uint64_t file_bytes = context.fs.open(path)->size();
  const std::unique_ptr<Link> link =
      open_disk_link(path, std::clamp(measurement.depth, 1, 64), options);
  return measure_link_gbps(*link, file_bytes, measurement, context);
}

double measure_link_gbps(Link& link, uint64_t source_bytes, const ReadMeasurement& measurement,
                         Context& context) {
  if (source_bytes < kPageBytes) return 0;
  const auto depth = static_cast<uint32_t>(std::clamp(measurement.depth, 1, 64));
  BareReader reader(link, source_bytes, measurement);

  const int64_t begin_ns = context.clock.now_ns();
  const int64_t end_ns = begin_ns + static_cast<int64_t>(measurement.seconds * 1e9);
  std::array<Completion, 64> completions;
  uint64_t bytes = 0;
  uint32_t in_flight = 0;
  bool failed = false;
  for (uint32_t slot = 0; slot < depth && !failed; ++slot) {
    failed = !reader.start(slot);
    if (!failed) ++in_flight;
  }
  int64_t now_ns = begin_ns;
  while (in_flight > 0) {
    const size_t count = link.wait(completions);
    now_ns = context.clock.now_ns();
    for (size_t i = 0; i < count; ++i) {
      const uint32_t slot = completions[i].tag;
      failed = failed || completions[i].error != 0;
      if (!failed) bytes += reader.size(slot);
      const bool again = !failed && now_ns < end_ns && reader.start(slot);
      if (!again) --in_flight;
    }
  }
  const auto elapsed_ns = static_cast<double>(std::max<int64_t>(now_ns - begin_ns, 1));
  return static_cast<double>(bytes) / elapsed_ns;
}

}  // namespace headrace
