#include "plan/pass_use.h"

#include <algorithm>

#include "base/error.h"

namespace headrace {
namespace {

/// Divides the tiles of a plan's requests between link and host.
class Divider {
 public:
  Divider(const Manifest& manifest, const Plan& plan, double share)
      : manifest_(manifest), plan_(plan) {
    uint64_t common = 0;
    for (uint32_t i = 0; i < plan.common_requests; ++i) common += plan.requests[i].payload_bytes;
    const auto all = static_cast<double>(plan.streamed_bytes);
    const double divided = all - static_cast<double>(common);
    // What the common requests leave out, the others make up for.
    share_ = divided > 0 ? std::clamp(share * all / divided, 0.0, 1.0) : 0.0;
  }

  PassUse divide() {
    for (uint32_t i = 0; i < plan_.requests.size();) {
      uint32_t end = i + 1;
      while (end < plan_.requests.size() && plan_.requests[end].group == plan_.requests[i].group) {
        ++end;
      }
      add_group(i, end);
      i = end;
    }
    use_.body = static_cast<uint32_t>(std::ranges::count_if(
        use_.requests,
        [&](const TransferRequest& request) { return request.home < plan_.body_requests; }));
    return std::move(use_);
  }

 private:
  void add_group(uint32_t begin, uint32_t end) {
    uint64_t bytes = 0;
    for (uint32_t i = std::max(begin, plan_.common_requests); i < end; ++i) {
      bytes += plan_.requests[i].payload_bytes;
    }
    double streams = (1.0 - share_) * static_cast<double>(bytes) + carried_;
    for (uint32_t i = begin; i < end; ++i) {
      const TransferRequest& request = plan_.requests[i];
      if (i < plan_.common_requests) {
        add_streamed(request, request.tile_count);
        continue;
      }
      uint32_t tiles = 0;
      for (; tiles < request.tile_count; ++tiles) {
        const auto tile =
            static_cast<double>(manifest_.tiles[request.first_tile + tiles].payload_bytes());
        if (tile > 2 * streams) break;  // the nearest whole number of tiles
        streams -= tile;
      }
      if (tiles > 0) add_streamed(request, tiles);
      if (tiles < request.tile_count) add_host(request, tiles);
    }
    carried_ = streams;
  }

  void add_streamed(const TransferRequest& request, uint32_t tiles) {
    use_.requests.push_back(first_tiles(manifest_, request, tiles));
    use_.streamed_bytes += use_.requests.back().payload_bytes;
  }

  void add_host(const TransferRequest& request, uint32_t from) {
    use_.host.push_back({.first_tile = request.first_tile + from,
                         .tile_count = request.tile_count - from,
                         .group = request.group});
    for (uint32_t t = from; t < request.tile_count; ++t) {
      use_.host_bytes += manifest_.tiles[request.first_tile + t].payload_bytes();
    }
  }

  const Manifest& manifest_;
  const Plan& plan_;
  double share_ = 0;
  double carried_ = 0;  // bytes that may stream beyond the group's share
  PassUse use_;
};

}  // namespace

size_t shared_class(int64_t tokens) {
  return static_cast<size_t>(std::ranges::lower_bound(kSharedRows, tokens) - kSharedRows.begin());
}

PassUse stream_all(const Plan& plan) {
  return {
      .requests = plan.requests, .body = plan.body_requests, .streamed_bytes = plan.streamed_bytes};
}

PassUse share_with_host(const Manifest& manifest, const Plan& plan, double share) {
  HR_CHECK(share >= 0.0 && share <= 1.0);
  return Divider(manifest, plan, share).divide();
}

}  // namespace headrace
