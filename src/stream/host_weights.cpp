#include "stream/host_weights.h"

#include <algorithm>

#include "base/error.h"
#include "stream/bulk_read.h"

namespace headrace {
namespace {

constexpr uint64_t kStretchBytes = uint64_t{256} << 20;

}  // namespace

HostWeights::HostWeights(const Plan& plan, Backend& backend)
    : plan_(plan),
      backend_(backend),
      memory_(allocate_host(plan.read_bytes, "streamed weights in host memory")) {
  uint64_t offset = 0;
  for (const TransferRequest& request : plan.requests) {
    if (stretches_.empty() || stretches_.back().bytes.size() + request.size_bytes > kStretchBytes) {
      stretches_.push_back({.bytes = {memory_.data() + offset, 0}});
    }
    Stretch& stretch = stretches_.back();
    stretch.bytes = {stretch.bytes.data(), stretch.bytes.size() + request.size_bytes};
    ++stretch.requests_left;
    offsets_.push_back(offset);
    stretch_of_.push_back(static_cast<uint32_t>(stretches_.size() - 1));
    offset += request.size_bytes;
  }
}

HostWeights::~HostWeights() {
  if (pinning_.valid()) pinning_.wait();
  for (const Stretch& stretch : stretches_) {
    if (stretch.pinned) backend_.unpin(stretch.bytes);
  }
}

uint64_t HostWeights::load(Link& link, TileCheck& check, Context& context) {
  std::vector<BulkPiece> pieces;
  for (const TransferRequest& request : plan_.requests) {
    pieces.push_back({.first_tile = request.first_tile,
                      .tile_count = request.tile_count,
                      .offset = request.offset,
                      .size_bytes = request.size_bytes});
  }
  const BulkTarget target = {
      .place = [&](size_t i) { return memory_.data() + offsets_[i]; },
      .arrived = [&](size_t i, std::byte*) { arrived(static_cast<uint32_t>(i)); },
  };
  const uint64_t bytes =
      bulk_read(pieces, link, check, target, "Loading weights into host memory", context);
  finish_pinning();
  return bytes;
}

void HostWeights::arrived(uint32_t request) {
  Stretch& stretch = stretches_[stretch_of_[request]];
  if (--stretch.requests_left > 0) return;
  finish_pinning();
  pinning_ = std::async(std::launch::async, [this, &stretch] {
    backend_.pin(stretch.bytes);
    stretch.pinned = true;
  });
}

/// Throws what the last pinning failed with.
void HostWeights::finish_pinning() {
  if (pinning_.valid()) pinning_.get();
}

const std::byte* HostWeights::tile(const Manifest& manifest, uint32_t tile) const {
  // The request that begins last among those that begin no later.
  const auto after =
      std::ranges::upper_bound(plan_.requests, tile, {}, &TransferRequest::first_tile);
  HR_CHECK(after != plan_.requests.begin());
  const TransferRequest& request = *(after - 1);
  HR_CHECK(tile < request.first_tile + request.tile_count);
  return memory_.data() + offsets_[request.home] + (manifest.tiles[tile].offset - request.offset);
}

std::span<const std::byte> HostWeights::request(uint32_t index) const {
  return memory_.bytes().subspan(offsets_[index], plan_.requests[index].size_bytes);
}

}  // namespace headrace
