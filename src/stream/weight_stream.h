#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/context.h"
#include "engine/engine_reader.h"
#include "engine/manifest.h"
#include "kernels/backend.h"
#include "kernels/weights.h"
#include "plan/host_balance.h"
#include "plan/pass_use.h"
#include "plan/plan.h"
#include "stream/link.h"
#include "stream/stream_counters.h"
#include "stream/stream_options.h"

namespace headrace {

/// Brings an engine's matrices into fast memory as the plan says: resident tiles once, into an
/// arena; the others on every pass, through a ring of fixed slots that a link fills in pass order
/// and that never drains: a slot that a lease gives back is refilled at once with the next request,
/// across groups and across passes. Ahead of begin_pass() only what every kind of pass uses is
/// fetched, so nothing that moves is wasted. Used by one thread; a thread of its own waits for the
/// link.
///
/// A failed read or checksum is an Error that names tile, matrix, layer and offset, thrown by the
/// feed before the bytes are used, and again by everything after it.
class WeightStream {
 public:
  /// More token rows than the host takes a share of.
  static constexpr int64_t kManyTokens = kSharedRows.back() + 1;

  /// Allocates arena and ring, and opens the link to the engine's weights (open_engine_link).
  /// `engine`, `backend` and `context` must outlive it.
  WeightStream(const Engine& engine, Plan plan, const StreamOptions& options, Backend& backend,
               Context& context);
  /// The same over any link: what `link` carries is laid out as `manifest` says; `source` names it
  /// in errors.
  WeightStream(const Manifest& manifest, Plan plan, std::unique_ptr<Link> link, std::string source,
               const StreamOptions& options, Backend& backend, Context& context);
  ~WeightStream();
  WeightStream(const WeightStream&) = delete;
  WeightStream& operator=(const WeightStream&) = delete;

  /// Reads the resident tiles, showing progress, then begins to fill the ring. Call once, first.
  void load_resident();

  /// Lets the host multiply these shares from the next pass on. REQUIRES: between passes; the
  /// backend has memory of its own and host workers; the plan allows for shares.
  void share_with_host(const HostShares& shares);
  /// The same with the shares of `balance`, which learns from every pass what the host achieves.
  void balance_with_host(const HostBalance& balance);
  /// How link and host would share a pass of so many token rows, by what passes so far have shown;
  /// nothing where they do not.
  std::optional<SharedPass> shared_pass(int64_t tokens) const;

  /// Begins a pass of so many token rows. Without logits it leaves lm_head out. If the last pass
  /// was not ended (something threw), the rest of it is dropped first.
  void begin_pass(bool with_logits, int64_t tokens = kManyTokens);
  /// The feed of a group of Manifest::groups(); valid until the next call. Groups come in order,
  /// each to its end, all but lm_head in every pass.
  WeightFeed& group(uint32_t index);
  void end_pass();

  /// Waits for the reads in flight, so that counters and trace hold every byte read so far. Between
  /// passes.
  void wait_idle();

  StreamCounters counters() const;
  /// Of the last pass that ended.
  const StreamCounters& last_pass() const;
  /// One line: "io_uring, O_DIRECT, 8 deep; ring of 8 x 16.8 MB".
  std::string description() const;
  const Plan& plan() const;

  /// Where a resident tile lies in fast memory; null for others.
  const std::byte* resident_tile(uint32_t tile) const;
  /// Adds to the counters; for EmbeddingReader.
  void count_embedding(uint64_t row_bytes, uint64_t read_bytes);

  Backend& backend() const;
  Context& context() const;

 private:
  class State;
  std::unique_ptr<State> state_;
};

}  // namespace headrace
