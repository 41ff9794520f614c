#include "plan/host_balance.h"

#include <algorithm>
#include <cmath>

namespace headrace {
namespace {

constexpr double kMeetingMs = 0.045;    // x to the host, a wait for the slowest thread, and back
constexpr double kLeastGain = 0.03;     // of the pass, for which it is worth meeting at all
constexpr double kWeightOfAPass = 0.1;  // in what is known of the host's speed
constexpr double kLeastMove = 0.01;     // of a share
constexpr double kMostSlowdown = 20;

double milliseconds(double bytes, double gbps) { return bytes / gbps / 1e6; }

}  // namespace

HostBalance::HostBalance(const Manifest& manifest, const Plan& plan, const MachineProfile& profile,
                         int64_t canonical_rows) {
  slowdown_.fill(1.0);
  std::vector<bool> meets(manifest.groups().size());
  for (const TransferRequest& request : plan.requests) meets[request.group] = true;
  groups_ = std::ranges::count(meets, true);
  payload_bytes_ = static_cast<double>(plan.streamed_bytes);
  const double link = profile.shared_link_gbps;
  if (link <= 0) return;
  link_ms_ = milliseconds(static_cast<double>(plan.read_bytes), link);
  for (size_t c = 0; c < kSharedRows.size(); ++c) {
    if (canonical_rows != 0 && kSharedRows[c] > canonical_rows) continue;
    double ms = 0;
    for (size_t t = 0; t < manifest.tiles.size() && ms >= 0; ++t) {
      const TileInfo& tile = manifest.tiles[t];
      if (plan.homes[t] == Home::kDevice) continue;
      const double rate = host_gbps(profile, tile.codec, kSharedRows[c]);
      ms = rate > 0 ? ms + milliseconds(static_cast<double>(tile.raw_bytes), rate) : -1;
    }
    host_ms_[c] = std::max(ms, 0.0);
  }
  told_ = shares();
}

double HostBalance::host_ms(size_t c) const { return host_ms_[c] * slowdown_[c]; }

SharedPass HostBalance::predict(size_t c) const {
  const SharedPass alone = {.link_ms = link_ms_};
  if (host_ms_[c] <= 0) return alone;
  // share x host + meetings = (1 - share) x link
  const double meetings_ms = kMeetingMs * static_cast<double>(groups_);
  const double share = std::clamp((link_ms_ - meetings_ms) / (link_ms_ + host_ms(c)), 0.0, 1.0);
  const SharedPass shared = {.share = share,
                             .host_ms = share * host_ms(c) + meetings_ms,
                             .link_ms = (1 - share) * link_ms_};
  return shared.pass_ms() < (1 - kLeastGain) * link_ms_ ? shared : alone;
}

HostShares HostBalance::shares() const {
  HostShares shares = {};
  for (size_t c = 0; c < shares.size(); ++c) shares[c] = predict(c).share;
  return shares;
}

bool HostBalance::correct(size_t c, uint64_t payload_bytes, int64_t busy_ns) {
  if (payload_bytes == 0 || busy_ns <= 0 || host_ms_[c] <= 0) return false;
  const double expected_ms = host_ms_[c] * static_cast<double>(payload_bytes) / payload_bytes_;
  const double slowdown = std::clamp(static_cast<double>(busy_ns) / 1e6 / expected_ms,
                                     1 / kMostSlowdown, kMostSlowdown);
  slowdown_[c] += kWeightOfAPass * (slowdown - slowdown_[c]);
  const HostShares now = shares();
  for (size_t i = 0; i < now.size(); ++i) {
    if (std::abs(now[i] - told_[i]) < kLeastMove) continue;
    told_ = now;
    return true;
  }
  return false;
}

}  // namespace headrace
