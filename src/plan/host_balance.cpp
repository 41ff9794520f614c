#include "plan/host_balance.h"

#include <algorithm>
#include <cmath>

namespace headrace {
namespace {

constexpr double kMeetingMs = 0.02;     // at first
constexpr double kLeastGain = 0.03;     // of the pass, for which it is worth meeting at all
constexpr double kWeightOfAPass = 0.1;  // in what is known of the speeds
constexpr double kForgotten = 0.01;     // by a pass that says nothing, of what is known
constexpr double kMostChange = 4;       // between two passes, that is believed
constexpr uint64_t kFewOf = 8;          // products: one
constexpr double kLeastLinkMs = 1e-3;
constexpr double kLeastMove = 0.003;  // of a share
// Of the link's time, times how much slower than the host it is.
constexpr double kMargin = 0.1;
// A link that nobody waits for may be quicker than is known: by so much after a pass for each such
// pass in a row, so that shares stay where they are good. A link of half the time is found after
// some 80 passes.
constexpr double kLinkProbe = 0.00025;
constexpr double kMostLinkProbe = 0.02;
constexpr double kMostSlowdown = 20;

double milliseconds(double bytes, double gbps) { return bytes / gbps / 1e6; }
double milliseconds(int64_t nanoseconds) { return static_cast<double>(nanoseconds) / 1e6; }

double within_reason(double slowdown) {
  return std::clamp(slowdown, 1 / kMostSlowdown, kMostSlowdown);
}

/// Moves what is known towards what a pass showed, not far: it may have been held up by chance.
void approach(double& known, double seen) {
  known += kWeightOfAPass * (std::clamp(seen, known / kMostChange, known * kMostChange) - known);
}

}  // namespace

HostBalance::HostBalance(const Manifest& manifest, const Plan& plan, const MachineProfile& profile,
                         int64_t canonical_rows) {
  slowdown_.fill(1.0);
  meeting_ms_ = kMeetingMs;
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

double HostBalance::link_ms() const { return link_ms_ * link_slowdown_; }

double HostBalance::meetings_ms() const { return meeting_ms_ * static_cast<double>(groups_); }

/// Chance decides in each pass who waits for whom. A little more for the slower side costs more
/// than the same for the quicker one, so that it gets less than would end with the other: by this
/// part of the link's time.
double HostBalance::margin(size_t c) const {
  return kMargin * (link_ms() - host_ms(c)) / (link_ms() + host_ms(c));
}

SharedPass HostBalance::predict(size_t c) const {
  const SharedPass alone = {.link_ms = link_ms()};
  if (host_ms_[c] <= 0) return alone;
  // share x host + meetings = (1 - share) x link with its margin
  const double wanted_ms = link_ms() * (1 + margin(c));
  const double share = std::clamp((wanted_ms - meetings_ms()) / (wanted_ms + host_ms(c)), 0.0, 1.0);
  const SharedPass shared = {.share = share,
                             .host_ms = share * host_ms(c) + meetings_ms(),
                             .link_ms = (1 - share) * link_ms()};
  return shared.pass_ms() < (1 - kLeastGain) * link_ms() ? shared : alone;
}

HostShares HostBalance::shares() const {
  HostShares shares = {};
  for (size_t c = 0; c < shares.size(); ++c) shares[c] = predict(c).share;
  return shares;
}

/// Where the host had to wait for the device in more than a few products, the link took as long as
/// the pass. Where the device waited, it is seen what meetings take, but not what the link could
/// do.
void HostBalance::correct_link(double share, const HostPart& pass) {
  if (kFewOf * (pass.products - pass.waited_for) > pass.products) {
    const double expected_ms = std::max((1 - share) * link_ms_, kLeastLinkMs);
    approach(link_slowdown_, milliseconds(pass.busy_ns + pass.waited_ns) / expected_ms);
    meeting_ms_ += kForgotten * (kMeetingMs - meeting_ms_);
    host_bound_passes_ = 0;
    return;
  }
  approach(meeting_ms_, milliseconds(pass.waited_ns) / static_cast<double>(pass.products));
  ++host_bound_passes_;
  link_slowdown_ *=
      1 - std::min(kLinkProbe * static_cast<double>(host_bound_passes_), kMostLinkProbe);
}

/// Host and link may by now do what the profile says.
void HostBalance::forget(size_t c) {
  slowdown_[c] += kForgotten * (1 - slowdown_[c]);
  link_slowdown_ += kForgotten * (1 - link_slowdown_);
  meeting_ms_ += kForgotten * (kMeetingMs - meeting_ms_);
  host_bound_passes_ = 0;
}

bool HostBalance::correct(size_t c, const HostPart& pass) {
  const double share = static_cast<double>(pass.payload_bytes) / payload_bytes_;
  if (host_ms_[c] <= 0 || share > 1) return false;
  if (pass.payload_bytes == 0) {
    forget(c);
  } else if (pass.products > 0 && pass.busy_ns > 0) {
    approach(slowdown_[c], milliseconds(pass.busy_ns) / (share * host_ms_[c]));
    slowdown_[c] = within_reason(slowdown_[c]);
    correct_link(share, pass);
    link_slowdown_ = within_reason(link_slowdown_);
  }
  const HostShares now = shares();
  for (size_t i = 0; i < now.size(); ++i) {
    if (std::abs(now[i] - told_[i]) < kLeastMove) continue;
    told_ = now;
    return true;
  }
  return false;
}

}  // namespace headrace
