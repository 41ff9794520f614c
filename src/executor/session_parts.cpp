#include "executor/session_parts.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/format.h"
#include "base/log.h"
#include "base/thread_pool.h"

namespace headrace {
namespace {

constexpr size_t kScratchLimitBytes = size_t{256} << 20;
constexpr int64_t kLargestChunk = 512;
constexpr int64_t kSmallestChunk = 16;
constexpr int kFirstDevice = 0;

/// The largest power of two up to 512 whose activations leave half of the scratch limit to kernels.
int64_t choose_chunk(const Engine& engine, const SessionLimits& limits) {
  int64_t chunk = kLargestChunk;
  while (chunk > kSmallestChunk &&
         Model::workspace_bytes(engine.model(), model_limits(limits, chunk, engine.build())) >
             kScratchLimitBytes / 2) {
    chunk /= 2;
  }
  return chunk;
}

}  // namespace

std::unique_ptr<Backend> make_backend(const std::string& device, Context& context) {
  if (device == "cuda") return make_cuda_backend(kFirstDevice);
  if (device != "cpu" && device != "auto") {
    fail(ErrorCode::kInvalidArgument, "[device] '{}' is not a device: use auto, cpu or cuda",
         device);
  }
  if (device == "auto") {
    try {
      return make_cuda_backend(kFirstDevice);
    } catch (const Error& error) {
      context.log.verbose("{}", error.what());
    }
  }
  return make_cpu_backend(context.pool, detect_cpu_isa());
}

SessionLimits resolve_limits(SessionLimits limits, const BuildConfig& build) {
  if (limits.max_sequences == SessionLimits::kEnginesMost) {
    limits.max_sequences = build.max_batch_size;
  }
  if (limits.max_sequences < 1) {
    fail(ErrorCode::kInvalidArgument, "[session] a batch of {} cannot run: use 1 or more",
         limits.max_sequences);
  }
  if (limits.max_sequences > build.max_batch_size) {
    fail(ErrorCode::kInvalidArgument,
         "[session] a batch of {} is larger than the engine's --max_batch_size {}: use fewer, or "
         "build "
         "again with more",
         limits.max_sequences, build.max_batch_size);
  }
  if (limits.max_beam_width < 1 || limits.max_beam_width > build.max_beam_width) {
    fail(
        ErrorCode::kInvalidArgument,
        "[session] {} beams cannot run, the engine's --max_beam_width is {}: use 1 to {}, or build "
        "again with more",
        limits.max_beam_width, build.max_beam_width, build.max_beam_width);
  }
  if (limits.max_sequence_tokens == 0) limits.max_sequence_tokens = build.max_seq_len;
  if (limits.max_sequence_tokens > build.max_seq_len) {
    fail(ErrorCode::kInvalidArgument,
         "[session] {} tokens of prompt and output are more than the engine's --max_seq_len {}: "
         "ask for "
         "fewer, or build again with more",
         limits.max_sequence_tokens, build.max_seq_len);
  }
  if (limits.kv_tokens < 0 || !(limits.kv_memory_fraction >= 0 && limits.kv_memory_fraction <= 1)) {
    fail(ErrorCode::kInvalidArgument,
         "[session] a KV cache of {} tokens or {} of the free memory cannot be: use 1 token or "
         "more, "
         "and 0.0 to 1.0",
         limits.kv_tokens, limits.kv_memory_fraction);
  }
  return limits;
}

ModelLimits model_limits(const SessionLimits& limits, int64_t chunk, const BuildConfig& build) {
  const int64_t rows = std::max(chunk, limits.max_lines());
  return {.max_tokens = rows,
          .max_logit_rows = limits.context_logits ? rows : limits.max_lines(),
          .max_sequences = limits.max_lines(),
          .max_context = limits.max_sequence_tokens,
          .canonical_rows = build.canonical_rows};
}

int64_t resolve_chunk(int64_t asked, const Engine& engine, const SessionLimits& limits,
                      const Backend& backend) {
  if (asked < 0) {
    fail(ErrorCode::kInvalidArgument,
         "[session] a prefill chunk of {} rows cannot run: use 1 or more", asked);
  }
  int64_t chunk = asked;
  if (chunk == 0) {
    chunk = backend.has_own_memory() ? engine.build().max_num_tokens : choose_chunk(engine, limits);
  }
  return std::min(chunk, limits.max_lines() * limits.max_sequence_tokens);
}

void check_streaming_allowed(const Engine& engine, const WeightBudget& budget) {
  const bool everything = budget.percent && *budget.percent == 1.0;
  if (engine.build().weight_streaming || everything) return;
  fail(ErrorCode::kInvalidArgument,
       "[session] Engine built without weight streaming. Cannot set gpu_weights_percent to a value "
       "other "
       "than 1. Build it with --weight_streaming.");
}

WeightBudget automatic_budget(uint64_t available, uint64_t ring, uint64_t streamable_bytes) {
  const uint64_t beside_ring = available > ring ? available - ring : 0;
  return {.percent = {}, .bytes = std::min(streamable_bytes, beside_ring - beside_ring / 10)};
}

void check_host_memory(const Plan& plan, uint64_t available) {
  const bool from_host = std::ranges::find(plan.homes, Home::kHost) != plan.homes.end();
  if (!from_host || plan.read_bytes <= available) return;
  // What streams is read with its padding; a hundredth more covers where whole tiles fall.
  const double padding =
      static_cast<double>(plan.read_bytes) / static_cast<double>(plan.streamed_bytes);
  const double fits =
      static_cast<double>(available) / (static_cast<double>(plan.streamable_bytes) * padding);
  fail(ErrorCode::kOutOfMemory,
       "[session] the weights that stream need {} of host memory, pinned; {} are available: "
       "--gpu_weights_percent {:.2f} or more fits",
       format_bytes(plan.read_bytes), format_bytes(available),
       std::min(1.0, std::ceil(100.0 * (1.0 - std::min(1.0, fits)) + 1.0) / 100.0));
}

int host_threads(const SessionOptions& options, const Engine& engine, const Backend& backend) {
  const bool from_host = backend.has_own_memory() && engine.build().weight_streaming;
  return from_host ? *options.host_threads : 0;
}

PlanOptions plan_options(const SessionOptions& options, const Engine& engine,
                         const Backend& backend) {
  return {.streamed_home = streamed_home(backend),
          .batch_size = options.limits.max_lines(),
          .ring_requests = options.ring_requests,
          .decode_resident = backend.has_own_memory(),
          .host_shares = host_threads(options, engine, backend) > 0,
          .canonical_rows = engine.build().canonical_rows};
}

Plan plan_within(const Manifest& manifest, const MachineProfile& profile, PlanOptions options,
                 uint64_t available) {
  Plan plan = make_plan(manifest, profile, options);
  if (!options.decode_resident || plan.arena_bytes + plan.ring_bytes() <= available) return plan;
  options.decode_resident = false;
  return make_plan(manifest, profile, options);
}

std::string percent_that_fits(const Engine& engine, const MachineProfile& profile,
                              PlanOptions options, uint64_t available) {
  uint64_t least = std::numeric_limits<uint64_t>::max();
  // All weights may take less than a ring beside some of them: everything is tried.
  const int lowest = engine.build().weight_streaming ? 0 : 100;
  for (int hundredths = 100; hundredths >= lowest; --hundredths) {
    options.budget = {.percent = hundredths / 100.0, .bytes = {}};
    const Plan plan = plan_within(engine.manifest(), profile, options, available);
    const uint64_t needed = plan.arena_bytes + plan.ring_bytes();
    if (needed <= available) {
      return fmt::format("--gpu_weights_percent {:.2f} fits", hundredths / 100.0);
    }
    least = std::min(least, needed);
  }
  return fmt::format(
      "no --gpu_weights_percent fits, {} are needed at least: allow more memory, a smaller batch "
      "or shorter sequences",
      format_bytes(least));
}

void refuse_kv_memory(double fraction, uint64_t block_bytes, uint64_t most, uint64_t free) {
  const auto block = static_cast<double>(block_bytes);
  if (free >= block_bytes) {
    constexpr double kSteps = 1e4;
    fail(ErrorCode::kOutOfMemory,
         "[session] kv_cache.free_memory_fraction {} of the {} that are free beside the weights is "
         "less than a block of KV cache, {}: use {} or more (of the commands it is "
         "--kv_cache_free_gpu_memory_fraction)",
         fraction, format_bytes(free), format_bytes(block_bytes),
         std::min(1.0, std::ceil(block / static_cast<double>(free) * kSteps) / kSteps));
  }
  const bool weights_are_in_the_way = fraction * static_cast<double>(most) >= block;
  fail(ErrorCode::kOutOfMemory,
       "[session] {} are free beside the weights, a block of KV cache needs {}: {}",
       format_bytes(free), format_bytes(block_bytes),
       weights_are_in_the_way ? "lower gpu_weights_percent"
                              : "allow more memory, no gpu_weights_percent leaves that much");
}

Home streamed_home(const Backend& backend) {
  return backend.has_own_memory() ? Home::kHost : Home::kDisk;
}

int resolve_host_threads(std::optional<int> asked) {
  constexpr int kMostThreads = 1024;
  if (!asked) return std::max(0, available_processors() - 1);
  if (*asked < 0 || *asked > kMostThreads) {
    fail(ErrorCode::kInvalidArgument, "[session] host_threads {}: use 0 to {}", *asked,
         kMostThreads);
  }
  return *asked;
}

int64_t most_columns(const Manifest& manifest) {
  int64_t columns = 0;
  for (const MatrixInfo& matrix : manifest.matrices) columns = std::max(columns, matrix.k);
  return columns;
}

int64_t most_group_rows(const Manifest& manifest) {
  int64_t most = 0;
  for (const MatrixGroup& group : manifest.groups()) {
    int64_t rows = 0;
    for (uint32_t i = 0; i < group.matrix_count; ++i) {
      rows += manifest.matrices[group.first_matrix + i].rows;
    }
    most = std::max(most, rows);
  }
  return most;
}

KvShape kv_shape(const Engine& engine) {
  const ModelConfig& config = engine.model();
  return {.layers = config.num_hidden_layers,
          .kv_heads = config.num_key_value_heads,
          .head_dim = config.head_size,
          .block_tokens = engine.build().tokens_per_block,
          .dtype = config.dtype};
}

int64_t kv_blocks(const Engine& engine, const SessionLimits& limits) {
  const KvShape shape = kv_shape(engine);
  const int64_t all = limits.max_lines() * shape.blocks_for(limits.max_sequence_tokens);
  if (limits.kv_tokens == 0) return all;
  return shape.blocks_for(std::min(limits.kv_tokens, all * shape.block_tokens));
}

}  // namespace headrace
