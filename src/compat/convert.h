#pragma once

#include <filesystem>
#include <vector>

#include "headrace/executor_options.h"
#include "headrace/executor_stats.h"
#include "headrace/request.h"
#include "headrace/response.h"
#include "tensorrt_llm/executor/executor.h"

/// Between the names of TensorRT-LLM and our own. Pure functions.
namespace headrace::compat {

namespace tle = tensorrt_llm::executor;

/// The device is that of the environment variable HEADRACE_DEVICE (auto, cpu or cuda; auto if it is
/// not there), the host threads are HEADRACE_HOST_THREADS (0 or more; nothing if it is not there):
/// Error{kInvalidArgument} for others. Warns, through Logger, about what is accepted and has no
/// meaning here. Error{kUnsupported} for what Headrace cannot do: more than one rank, speculative
/// decoding, sink tokens.
ExecutorOptions to_options(const std::filesystem::path& engine_dir,
                           const tle::ExecutorConfig& config);

/// Warns of beams that are streamed or counted otherwise than asked for, as upstream does.
/// Error{kUnsupported} for features that a request here cannot have, naming them;
/// {kInvalidArgument} for an embedding bias of another type or shape.
Request to_request(const tle::Request& request);

/// `streaming`: the request's, which chooses the order of dimensions of generation logits.
tle::Response from_response(const Response& response, bool streaming);

tle::IterationStats from_stats(const IterationStats& stats);
tle::RequestStatsPerIteration from_stats(const RequestStatsOfIteration& stats);

/// 0.2, not 0.200000003, for 0.2f: the number that the user wrote.
double as_written(float value);

}  // namespace headrace::compat
