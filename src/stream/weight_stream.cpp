#include "stream/weight_stream.h"

#include <algorithm>
#include <optional>

#include "base/clock.h"
#include "base/error.h"
#include "base/format.h"
#include "base/thread_pool.h"
#include "base/trace.h"
#include "stream/copy_ring.h"
#include "stream/disk_ring.h"
#include "stream/engine_link.h"
#include "stream/host_weights.h"
#include "stream/resident_weights.h"
#include "stream/tile_check.h"
#include "stream/weight_runs.h"

namespace headrace {
namespace {

static_assert(kSharedRows.back() <= kMostHostTokens);

// Streamed pieces of a group that are held together keep most of the ring from being filled again
// while they are multiplied. So many token rows take far longer than the copies that then wait.
constexpr int64_t kHoldingTokens = 32768;
constexpr int32_t kSlotsForNext = 2;  // of the ring, that stay free

constexpr int32_t kLoadDepth = 8;  // requests in flight while weights are loaded

/// Where every byte is read once and for all, a page cache that holds the file is the quicker
/// source, and many threads copy out of it quicker than one.
std::unique_ptr<Link> open_loading_link(const Engine& engine, int threads,
                                        const StreamOptions& options) {
  StreamOptions buffered = options;
  if (!engine.is_synthetic()) {
    if (options.direct == DirectMode::kAuto) buffered.direct = DirectMode::kOff;
    if (options.io == IoMode::kAuto) buffered.io = IoMode::kPread;
  }
  return open_engine_link(engine, std::max(threads, kLoadDepth), threads, buffered);
}

std::unique_ptr<Link> open_link(const Engine& engine, const Plan& plan,
                                const StreamOptions& options, const Backend& backend,
                                const Context& context) {
  const int threads = context.pool.size();
  if (backend.has_own_memory()) return open_loading_link(engine, threads, options);
  return open_engine_link(engine, std::max(plan.ring_requests, kLoadDepth), threads, options);
}

}  // namespace

/// A use, and what the host multiplies in it by group.
struct SharedUse {
  double share = 0;  // the host's
  PassUse use;
  std::vector<std::vector<WeightRun>> host_runs = {};  // empty: none
  std::vector<uint64_t> host_bytes = {};               // payload of the same
};

class WeightStream::State : public WeightFeed {
 public:
  State(const Manifest& manifest, Plan plan, std::unique_ptr<Link> link, std::string source,
        const StreamOptions& options, Backend& backend, Context& context);

  void load_resident();
  void share_with_host(const HostShares& shares);
  void balance_with_host(const HostBalance& balance);
  std::optional<SharedPass> shared_pass(int64_t tokens) const;
  void begin_pass(bool with_logits, int64_t tokens);
  State& group(uint32_t index);
  bool next(Lease& lease) override;
  bool can_hold_rest() const override;
  std::span<const WeightRun> host_runs() const override;
  void end_pass();
  StreamCounters counters() const;
  void trace_pass() const;

  const Manifest& manifest;
  const Plan plan;
  Backend& backend;
  Context& context;
  StreamCounters totals;  // what the ring does not count
  StreamCounters last_pass;
  const std::unique_ptr<Link> link;
  TileCheck check;
  ResidentWeights resident;
  std::unique_ptr<HostWeights> host_weights;  // null where the ring reads the file itself
  std::unique_ptr<Ring> ring;  // null if nothing streams; goes before what it reads into and from

 private:
  SharedUse divide(double share) const;
  void correct_balance();

  bool loaded_ = false;
  const SharedUse all_;  // everything streams
  // By class of kSharedRows, brought to the wanted share when a pass of it begins; empty: the host
  // takes no share.
  std::vector<SharedUse> shared_;
  HostShares wanted_shares_ = {};

  std::optional<HostBalance> balance_;
  HostWork work_before_;       // of the host's threads, before the last passes,
  int64_t passes_worked_ = 0;  // so many

  // The pass.
  const SharedUse* use_ = &all_;
  bool in_pass_ = false;
  bool with_logits_ = false;
  int64_t tokens_ = 0;
  int64_t pass_begin_ns_ = 0;
  StreamCounters before_pass_;
  uint32_t next_group_ = 0;
  uint32_t next_request_ = 0;

  // The group, as a feed.
  uint32_t group_ = 0;
  uint32_t group_end_ = 0;  // first request of later groups
  bool resident_left_ = false;
};

WeightStream::State::State(const Manifest& manifest_in, Plan plan_in, std::unique_ptr<Link> link_in,
                           std::string source, const StreamOptions& options, Backend& backend_in,
                           Context& context_in)
    : manifest(manifest_in),
      plan(std::move(plan_in)),
      backend(backend_in),
      context(context_in),
      link(std::move(link_in)),
      check(manifest, std::move(source), options.verify),
      resident(manifest, plan, backend),
      all_{.use = stream_all(plan)} {
  if (plan.requests.empty()) return;
  Buffer memory = backend.allocate(plan.ring_bytes(), "ring of streamed weights");
  if (backend.has_own_memory()) {
    host_weights = std::make_unique<HostWeights>(plan, backend);
    ring =
        std::make_unique<CopyRing>(CopyRing::Parts{.manifest = manifest,
                                                   .plan = plan,
                                                   .weights = *host_weights,
                                                   .clock = context.clock,
                                                   .trace = context.trace},
                                   backend.make_copy_queue(plan.ring_requests), std::move(memory));
    return;
  }
  link->prepare(memory.bytes());
  ring = std::make_unique<DiskRing>(DiskRing::Parts{.manifest = manifest,
                                                    .plan = plan,
                                                    .link = *link,
                                                    .check = check,
                                                    .clock = context.clock,
                                                    .trace = context.trace},
                                    std::move(memory));
}

void WeightStream::State::load_resident() {
  HR_CHECK(!loaded_);
  totals.resident_load_bytes += resident.load(*link, check, context);
  if (host_weights) totals.host_load_bytes += host_weights->load(*link, check, context);
  loaded_ = true;
  if (ring) ring->begin();
}

void WeightStream::State::share_with_host(const HostShares& shares) {
  HR_CHECK(!in_pass_ && host_weights != nullptr);
  wanted_shares_ = shares;
  use_ = &all_;
  shared_.clear();
  for (const double share : shares) shared_.push_back(divide(share));
}

SharedUse WeightStream::State::divide(double share) const {
  const std::vector<MatrixGroup> groups = manifest.groups();
  SharedUse shared{.share = share, .use = headrace::share_with_host(manifest, plan, share)};
  shared.host_runs.resize(groups.size());
  shared.host_bytes.resize(groups.size());
  for (const TileRange& range : shared.use.host) {
    for (uint32_t t = range.first_tile; t < range.first_tile + range.tile_count; ++t) {
      append_run(manifest.tiles[t], groups[range.group].first_matrix,
                 host_weights->tile(manifest, t), shared.host_runs[range.group]);
      shared.host_bytes[range.group] += manifest.tiles[t].payload_bytes();
    }
  }
  return shared;
}

void WeightStream::State::balance_with_host(const HostBalance& balance) {
  balance_ = balance;
  work_before_ = backend.host_workers()->work();
  passes_worked_ = 0;
  share_with_host(balance_->shares());
}

std::optional<SharedPass> WeightStream::State::shared_pass(int64_t tokens) const {
  const size_t c = shared_class(tokens);
  if (!balance_ || c == kSharedRows.size()) return std::nullopt;
  return balance_->predict(c);
}

/// After a pass whose logits somebody has seen: no product of it is under way any more.
void WeightStream::State::correct_balance() {
  if (!balance_) return;
  const HostWork now = backend.host_workers()->work();
  const HostWork work = now - work_before_;
  work_before_ = now;
  if (std::exchange(passes_worked_, 0) != 1) return;  // of several, that are not told apart
  const size_t c = shared_class(tokens_);
  if (c < shared_.size() && balance_->correct(c, {.products = work.products,
                                                  .waited_for = work.waited_for,
                                                  .payload_bytes = work.weight_bytes,
                                                  .busy_ns = work.busy_ns,
                                                  .waited_ns = work.waited_ns})) {
    wanted_shares_ = balance_->shares();
  }
}

void WeightStream::State::begin_pass(bool with_logits, int64_t tokens) {
  HR_CHECK(loaded_);
  if (in_pass_ && ring) ring->abandon_pass();
  if (!in_pass_ && with_logits_) correct_balance();
  ++passes_worked_;
  use_ = &all_;
  if (const size_t c = shared_class(tokens); c < shared_.size()) {
    if (shared_[c].share != wanted_shares_[c]) shared_[c] = divide(wanted_shares_[c]);
    use_ = &shared_[c];
  }
  in_pass_ = true;
  with_logits_ = with_logits;
  tokens_ = tokens;
  next_group_ = 0;
  next_request_ = 0;
  group_end_ = 0;
  resident_left_ = false;
  before_pass_ = counters();
  pass_begin_ns_ = context.clock.now_ns();
  if (ring) ring->begin_pass(use_->use, with_logits);
}

WeightStream::State& WeightStream::State::group(uint32_t index) {
  HR_CHECK(in_pass_ && index == next_group_);                // in order,
  HR_CHECK(next_request_ == group_end_ && !resident_left_);  // each to its end
  ++next_group_;
  group_ = index;
  resident_left_ = !resident.runs(index).empty();
  const std::vector<TransferRequest>& requests = use_->use.requests;
  while (group_end_ < requests.size() && requests[group_end_].group == index) ++group_end_;
  if (!use_->host_bytes.empty()) totals.host_bytes += use_->host_bytes[index];
  return *this;
}

std::span<const WeightRun> WeightStream::State::host_runs() const {
  if (use_->host_runs.empty()) return {};
  return use_->host_runs[group_];
}

bool WeightStream::State::can_hold_rest() const {
  const auto left = static_cast<int32_t>(group_end_ - next_request_);
  if (left == 0) return true;
  const TransferRequest& next = use_->use.requests[next_request_];
  return tokens_ >= kHoldingTokens && left + kSlotsForNext <= plan.ring_requests &&
         manifest.tiles[next.first_tile].codec == CodecId::kRaw;
}

bool WeightStream::State::next(Lease& lease) {
  lease.release();
  if (std::exchange(resident_left_, false)) {
    lease = Lease(nullptr, 0, resident.runs(group_));
    return true;
  }
  if (next_request_ == group_end_) return false;
  lease = ring->take(next_request_);
  ++next_request_;
  return true;
}

void WeightStream::State::end_pass() {
  HR_CHECK(in_pass_ && next_request_ == group_end_ && !resident_left_);
  const std::vector<TransferRequest>& requests = use_->use.requests;
  const auto skipped = requests.begin() + next_request_;
  HR_CHECK(std::all_of(skipped, requests.end(), [&](const TransferRequest& request) {
    const MatrixInfo& matrix = manifest.matrices[manifest.tiles[request.first_tile].matrix];
    return !with_logits_ && matrix.role == Role::kLmHead;
  }));
  in_pass_ = false;
  ++totals.passes;
  totals.pass_ns += context.clock.now_ns() - pass_begin_ns_;
  last_pass = counters() - before_pass_;
  trace_pass();
}

StreamCounters WeightStream::State::counters() const {
  StreamCounters sum = ring ? ring->counters() : StreamCounters{};
  sum.passes = totals.passes;
  sum.pass_ns = totals.pass_ns;
  sum.host_bytes = totals.host_bytes;
  if (const HostWorkers* workers = backend.host_workers()) {
    sum.host_busy_ns = workers->work().busy_ns;
  }
  sum.embedding_bytes = totals.embedding_bytes;
  sum.embedding_read_bytes = totals.embedding_read_bytes;
  sum.resident_load_bytes = totals.resident_load_bytes;
  sum.host_load_bytes = totals.host_load_bytes;
  return sum;
}

void WeightStream::State::trace_pass() const {
  if (!context.trace.enabled()) return;
  TraceEvent event{.name = "pass",
                   .category = "stream",
                   .begin_ns = pass_begin_ns_,
                   .end_ns = context.clock.now_ns()};
  event.add("pass", static_cast<uint64_t>(totals.passes - 1));
  event.add("payload_bytes", last_pass.payload_bytes);
  event.add("read_bytes", last_pass.read_bytes);
  event.add("host_bytes", last_pass.host_bytes);
  event.add("embedding_bytes", last_pass.embedding_bytes);
  event.add("wait_ns", static_cast<uint64_t>(last_pass.wait_ns));
  event.add("starved_ns", static_cast<uint64_t>(last_pass.starved_ns));
  context.trace.record(event);
}

WeightStream::WeightStream(const Engine& engine, Plan plan, const StreamOptions& options,
                           Backend& backend, Context& context)
    : WeightStream(engine.manifest(), plan, open_link(engine, plan, options, backend, context),
                   engine.weights_path(), settle_stream_options(engine, options), backend,
                   context) {}

WeightStream::WeightStream(const Manifest& manifest, Plan plan, std::unique_ptr<Link> link,
                           std::string source, const StreamOptions& options, Backend& backend,
                           Context& context)
    : state_(std::make_unique<State>(manifest, std::move(plan), std::move(link), std::move(source),
                                     options, backend, context)) {}

WeightStream::~WeightStream() = default;

void WeightStream::load_resident() { state_->load_resident(); }
void WeightStream::share_with_host(const HostShares& shares) { state_->share_with_host(shares); }
void WeightStream::balance_with_host(const HostBalance& balance) {
  state_->balance_with_host(balance);
}
std::optional<SharedPass> WeightStream::shared_pass(int64_t tokens) const {
  return state_->shared_pass(tokens);
}
void WeightStream::begin_pass(bool with_logits, int64_t tokens) {
  state_->begin_pass(with_logits, tokens);
}
WeightFeed& WeightStream::group(uint32_t index) { return state_->group(index); }
void WeightStream::end_pass() { state_->end_pass(); }
void WeightStream::wait_idle() {
  if (state_->ring) state_->ring->wait_idle();
}

StreamCounters WeightStream::counters() const { return state_->counters(); }
const StreamCounters& WeightStream::last_pass() const { return state_->last_pass; }

std::string WeightStream::description() const {
  const Plan& plan = state_->plan;
  if (!state_->ring) return state_->link->description() + "; nothing streams";
  if (state_->host_weights) {
    return fmt::format("pinned host memory (loaded from {}); ring of {} x {}",
                       state_->link->description(), plan.ring_requests,
                       format_bytes(plan.ring_slot_bytes));
  }
  return fmt::format("{}; ring of {} x {}", state_->link->description(), plan.ring_requests,
                     format_bytes(plan.ring_slot_bytes));
}

const Plan& WeightStream::plan() const { return state_->plan; }
const std::byte* WeightStream::resident_tile(uint32_t tile) const {
  return state_->resident.tile(tile);
}

void WeightStream::count_embedding(uint64_t row_bytes, uint64_t read_bytes) {
  state_->totals.embedding_bytes += row_bytes;
  state_->totals.embedding_read_bytes += read_bytes;
}

Backend& WeightStream::backend() const { return state_->backend; }
Context& WeightStream::context() const { return state_->context; }

}  // namespace headrace
