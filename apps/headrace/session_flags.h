#pragma once

#include <optional>
#include <string>

#include "executor/session.h"
#include "headrace/app.h"

namespace headrace::app {

/// The flags of every command that runs an engine: where it is, how much of it stays in fast
/// memory, and how it streams. One instance per command.
struct SessionFlags {
  std::string engine_dir = "engine_outputs";
  std::string device = "auto";
  std::string gpu_weights_percent = "1";
  std::string gpu_weights_budget;  // empty: the percentage counts
  std::string gpu_memory_limit;    // empty: what is free
  int64_t prefill_chunk = 0;
  int32_t ring_requests = 0;
  std::optional<int> host_threads = {};
  std::optional<double> host_share;  // nothing: planned
  std::string verify = "first";
  std::string io = "auto";
  std::string direct_io = "auto";
  std::string profile;
  std::string trace;
  std::string stats_json;
};

/// Registers the flags above on `command`, all but --gpu_weights_percent and --engine_dir's default
/// being the same for every command.
void add_session_flags(CLI::App& command, SessionFlags& flags);

/// Tokens, and sequences, beyond which no engine is built.
inline constexpr int64_t kMostOfEngines = int64_t{1} << 30;

/// Adds --gpu_weights_percent, after --gpu_weights_budget is there: only one of both can be given.
void add_percent_flag(CLI::App& command, SessionFlags& flags, const std::string& description);

/// --host_threads alone.
void add_host_threads_flag(CLI::App& command, SessionFlags& flags);

/// The options that the flags describe. Limits are left at their defaults. Error{kInvalidArgument}
/// naming the flag for values that cannot be.
SessionOptions session_options(const SessionFlags& flags);

/// Error{kNotFound} if --engine_dir is not an engine's folder, before anything else is looked for
/// in it.
void require_engine(const SessionFlags& flags, Context& context);

/// A number from text; Error{kUsage} naming the flag if it is not one.
double parse_number(const std::string& text, const std::string& flag);

/// Begins recording if --trace was given. Call before the session opens.
void start_trace(const SessionFlags& flags, Context& context);

/// Writes --trace and --stats_json, if given. Call after the last generate(). `stats` are those of
/// its calls taken together; by default of the last.
void write_reports(const SessionFlags& flags, const Session& session, const GenerationStats& stats,
                   Context& context);
void write_reports(const SessionFlags& flags, const Session& session, Context& context);

/// "streamed 107.0 MB a pass at 1.93 GB/s, 96 % of the measured disk": what moved in the last
/// generate() call, for the end of a run; empty when nothing streamed.
std::string streaming_summary(const Session& session, const GenerationStats& stats);
std::string streaming_summary(const Session& session);

}  // namespace headrace::app
