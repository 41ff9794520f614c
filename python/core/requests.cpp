#include <limits>

#include <pybind11/stl.h>

#include "core/attributes.h"
#include "core/callbacks.h"
#include "core/convert.h"

namespace headrace::python {
namespace {

SamplingOptions to_sampling(const py::object& object) {
  const Attributes in(object, "SamplingOptions");
  SamplingOptions options;
  in.read("beam_width", options.beam_width);
  in.read("num_return_sequences", options.num_return_sequences);
  in.read("temperature", options.temperature);
  in.read("top_k", options.top_k);
  in.read("top_p", options.top_p);
  in.read("min_p", options.min_p);
  in.read("top_p_decay", options.top_p_decay);
  in.read("top_p_min", options.top_p_min);
  in.read("top_p_reset_id", options.top_p_reset_id);
  in.read("repetition_penalty", options.repetition_penalty);
  in.read("presence_penalty", options.presence_penalty);
  in.read("frequency_penalty", options.frequency_penalty);
  in.read("no_repeat_ngram_size", options.no_repeat_ngram_size);
  in.read("min_length", options.min_length);
  in.read("random_seed", options.random_seed);
  in.read("length_penalty", options.length_penalty);
  in.read("early_stopping", options.early_stopping);
  in.read("beam_search_diversity_rate", options.beam_search_diversity_rate);
  return options;
}

OutputOptions to_output(const py::object& object) {
  const Attributes in(object, "OutputOptions");
  OutputOptions options;
  in.read("log_probs", options.log_probs);
  in.read("context_logits", options.context_logits);
  in.read("generation_logits", options.generation_logits);
  in.read("exclude_input", options.exclude_input);
  in.read("exclude_end_id", options.exclude_end_id);
  return options;
}

std::vector<std::vector<int32_t>> to_words(const py::object& words, const char* place) {
  std::vector<std::vector<int32_t>> rows;
  for (const py::handle word : words) {
    rows.push_back(to_tokens(py::reinterpret_borrow<py::object>(word), place));
  }
  return rows;
}

std::vector<float> to_bias(const py::object& bias) {
  if (bias.is_none()) return {};
  const auto array = py::array_t<float, py::array::c_style | py::array::forcecast>::ensure(bias);
  if (!array) {
    PyErr_Clear();
    throw py::type_error("Request.embedding_bias holds something that is not a number");
  }
  return {array.data(), array.data() + array.size()};
}

KvCacheOptions to_kv_cache(const py::object& object) {
  const Attributes in(object, "KvCacheConfig");
  KvCacheOptions options;
  in.read("max_tokens", options.max_tokens);
  in.read("free_memory_fraction", options.free_memory_fraction);
  in.read("enable_block_reuse", options.enable_block_reuse);
  return options;
}

/// A share of the weights, or "auto".
void read_percent(const Attributes& in, ExecutorOptions& options) {
  const py::object percent = in.get("gpu_weights_percent");
  options.automatic_gpu_weights =
      py::isinstance<py::str>(percent) && percent.cast<std::string>() == "auto";
  if (!options.automatic_gpu_weights) in.read("gpu_weights_percent", options.gpu_weights_percent);
}

CapacityPolicy to_policy(const Attributes& in) {
  std::string name;
  in.read("capacity_policy", name);
  if (name == "guaranteed_no_evict") return CapacityPolicy::kGuaranteedNoEvict;
  if (name == "max_utilization") return CapacityPolicy::kMaxUtilization;
  throw Error(ErrorCode::kInvalidArgument, "[executor] capacity_policy '" + name +
                                               "': use guaranteed_no_evict or max_utilization");
}

}  // namespace

std::vector<int32_t> to_tokens(const py::object& ids, const char* place) {
  const py::array array = py::array::ensure(ids);
  if (!array) PyErr_Clear();
  const bool empty = array && array.size() == 0;
  const bool integers = array && (array.dtype().kind() == 'i' || array.dtype().kind() == 'u');
  if (!integers && !empty) throw py::type_error(std::string(place) + ": not integers");
  if (array.ndim() != 1) throw py::value_error(std::string(place) + ": not one row of token ids");
  const auto wide = py::array_t<int64_t, py::array::c_style | py::array::forcecast>::ensure(array);
  std::vector<int32_t> tokens;
  tokens.reserve(static_cast<size_t>(wide.size()));
  for (const int64_t id : std::span(wide.data(), static_cast<size_t>(wide.size()))) {
    if (id < std::numeric_limits<int32_t>::min() || id > std::numeric_limits<int32_t>::max()) {
      throw py::value_error(std::string(place) + ": " + std::to_string(id) + " is no token id");
    }
    tokens.push_back(static_cast<int32_t>(id));
  }
  return tokens;
}

Request to_request(const py::object& object) {
  const Attributes in(object, "Request");
  Request request;
  request.prompt = to_tokens(in.get("prompt"), "Request.prompt");
  in.read("max_new_tokens", request.max_new_tokens);
  in.read("streaming", request.streaming);
  request.sampling = to_sampling(in.get("sampling"));
  request.output = to_output(in.get("output"));
  in.read("end_id", request.end_id);
  in.read("pad_id", request.pad_id);
  request.bad_words = to_words(in.get("bad_words"), "Request.bad_words");
  request.stop_words = to_words(in.get("stop_words"), "Request.stop_words");
  request.embedding_bias = to_bias(in.get("embedding_bias"));
  in.read("logits_processor", request.logits_processor);
  in.read("client_id", request.client_id);
  in.read("priority", request.priority);
  in.read("deadline_ms", request.deadline_ms);
  in.read("return_all_generated_tokens", request.return_all_generated_tokens);
  return request;
}

ExecutorOptions to_options(const std::string& engine_dir, const py::object& config) {
  const Attributes in(config, "ExecutorConfig");
  ExecutorOptions options;
  options.engine_dir = engine_dir;
  in.read("device", options.device);
  in.read("threads", options.threads);
  read_percent(in, options);
  in.read("gpu_weights_bytes", options.gpu_weights_bytes);
  in.read("memory_limit_bytes", options.memory_limit_bytes);
  in.read("ring_requests", options.ring_requests);
  in.read("profile_path", options.profile_path);
  in.read("host_threads", options.host_threads);
  in.read("max_batch_size", options.max_batch_size);
  in.read("max_num_tokens", options.max_num_tokens);
  in.read("max_beam_width", options.max_beam_width);
  in.read("max_queue_size", options.max_queue_size);
  options.capacity_policy = to_policy(in);
  options.kv_cache = to_kv_cache(in.get("kv_cache"));
  in.read("enable_chunked_context", options.enable_chunked_context);
  in.read("normalize_log_probs", options.normalize_log_probs);
  in.read("iteration_stats_max", options.iteration_stats_max);
  in.read("request_stats_max", options.request_stats_max);
  for (const auto& [name, function] : in.get("logits_processors").cast<py::dict>()) {
    options.logits_processors[name.cast<std::string>()] =
        to_logits_processor(py::reinterpret_borrow<py::object>(function));
  }
  const py::object batched = in.get("batched_logits_processor");
  if (!batched.is_none()) options.batched_logits_processor = to_batched_processor(batched);
  const py::object log = in.get("log");
  if (!log.is_none()) options.log = to_log_function(log);
  return options;
}

}  // namespace headrace::python
