#pragma once

#include <cstdint>

#include "engine/manifest.h"
#include "plan/machine_profile.h"
#include "plan/pass_use.h"
#include "plan/plan.h"

namespace headrace {

/// How long the parts of a pass take that host and link divide between them.
struct SharedPass {
  double share = 0;    // the host's, of what is not resident
  double host_ms = 0;  // the host's products, and its meetings with the device
  double link_ms = 0;
  double pass_ms() const { return host_ms > link_ms ? host_ms : link_ms; }
};

/// What the host did in a pass.
struct HostPart {
  uint64_t products = 0;
  uint64_t waited_for = 0;     // of those: the device had ended its part before
  uint64_t payload_bytes = 0;  // of the weights that it multiplied
  int64_t busy_ns = 0;         // with them,
  int64_t waited_ns = 0;       // and between a product and the next
};

/// Decides which shares of the tiles the host multiplies so that host and link end together: from a
/// profile at first, then from what the host's threads achieve and how long they wait for the
/// device, which waits for the link: other processes may disturb both.
/// Results do not depend on it. Pure but for what it has been told; confined to one thread.
class HostBalance {
 public:
  /// Passes of more than `canonical_rows` token rows (0: none) have another order of sums, in which
  /// the host takes no part.
  HostBalance(const Manifest& manifest, const Plan& plan, const MachineProfile& profile,
              int64_t canonical_rows);

  HostShares shares() const;
  /// Of the passes of kSharedRows[c] token rows. share is 0 where the host would not help.
  SharedPass predict(size_t c) const;

  /// A pass of class c has ended. Returns whether the shares have moved since they were last told
  /// of.
  bool correct(size_t c, const HostPart& pass);

 private:
  double host_ms(size_t c) const;
  double link_ms() const;
  double margin(size_t c) const;
  double meetings_ms() const;
  void correct_link(double share, const HostPart& pass);
  void forget(size_t c);

  int64_t groups_ = 0;        // that meet
  double payload_bytes_ = 0;  // not resident
  double link_ms_ = 0;        // of everything that is not resident
  HostShares host_ms_ = {};   // the same for the host, by class; 0: it takes no part
  HostShares slowdown_ = {};  // of the host, against the profile
  double link_slowdown_ = 1;
  int64_t host_bound_passes_ = 0;  // in a row
  double meeting_ms_ = 0;          // from a product's last row to the x of the next
  HostShares told_ = {};
};

}  // namespace headrace
