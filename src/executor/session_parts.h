#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/context.h"
#include "engine/engine_reader.h"
#include "executor/session.h"
#include "kernels/backend.h"
#include "kv/kv_cache.h"
#include "model/workspace.h"

namespace headrace {

/// What a session settles before it allocates anything, so that `headrace plan` can say the same
/// without a session.

/// The backend that --device names; auto is CUDA where it can be used, else the CPU. Error{kDevice}
/// for one that is not there.
std::unique_ptr<Backend> make_backend(const std::string& device, Context& context);

/// Fills in defaults from the engine. Error{kInvalidArgument} for more than it was built for.
SessionLimits resolve_limits(SessionLimits limits, const BuildConfig& build);

/// The largest pass of a session whose prefill passes have `chunk` token rows.
ModelLimits model_limits(const SessionLimits& limits, int64_t chunk, const BuildConfig& build);

/// `asked`, or if it is 0: the engine's --max_num_tokens on a device with memory of its own,
/// elsewhere as many rows as keep the scratch under 256 MB. Takes resolved limits.
int64_t resolve_chunk(int64_t asked, const Engine& engine, const SessionLimits& limits,
                      const Backend& backend);

/// Error{kInvalidArgument} if the engine was built without weight streaming and not all of it is to
/// stay in fast memory.
void check_streaming_allowed(const Engine& engine, const WeightBudget& budget);

/// As many weights as `available` bytes hold beside a ring of `ring` bytes, with a tenth left for
/// the rest of the process and its neighbours.
WeightBudget automatic_budget(uint64_t available, uint64_t ring, uint64_t streamable_bytes);

/// Error{kOutOfMemory} if what a plan streams from host memory, where it is pinned, is more than
/// `available` bytes; it says which percentage fits.
void check_host_memory(const Plan& plan, uint64_t available);

/// Host threads that multiply weights of sessions with these (resolved) options: none where the
/// weights are not in host memory, or all resident.
int host_threads(const SessionOptions& options, const Engine& engine, const Backend& backend);

/// How sessions with these (resolved) options plan, but for their budget.
PlanOptions plan_options(const SessionOptions& options, const Engine& engine,
                         const Backend& backend);

/// The plan of these options. Coded tiles that are resident stay coded if weights and ring would
/// take more than `available` bytes otherwise.
Plan plan_within(const Manifest& manifest, const MachineProfile& profile, PlanOptions options,
                 uint64_t available);

/// For an error's end: the largest percentage whose plan takes no more than `available` bytes of
/// fast memory, in hundredths, or that none does and what the least of them takes.
std::string percent_that_fits(const Engine& engine, const MachineProfile& profile,
                              PlanOptions options, uint64_t available);

/// Error{kOutOfMemory} where `fraction` of what is free is no block of KV cache: what would do.
/// `most` bytes are free with another share of the weights, `free` with the one asked for.
[[noreturn]] void refuse_kv_memory(double fraction, uint64_t block_bytes, uint64_t most,
                                   uint64_t free);

/// Where tiles rest that are not in fast memory: in host memory beside a device that has its own,
/// otherwise in the engine file.
Home streamed_home(const Backend& backend);

/// SessionOptions::host_threads, or what nothing means there. Error{kInvalidArgument} for negative
/// numbers and very large ones.
int resolve_host_threads(std::optional<int> asked);
/// Columns of the widest matrix, and rows of the group that has most.
int64_t most_columns(const Manifest& manifest);
int64_t most_group_rows(const Manifest& manifest);

KvShape kv_shape(const Engine& engine);
/// Blocks of KV cache that a session with these (resolved) limits can use.
int64_t kv_blocks(const Engine& engine, const SessionLimits& limits);

}  // namespace headrace
