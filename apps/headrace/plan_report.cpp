#include "headrace/plan_report.h"

#include <iterator>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/format.h"
#include "headrace/memory_json.h"

namespace headrace::app {
namespace {

double tokens_per_second(const PlanReport& report, const Plan& plan) {
  if (plan.predicted_pass_ms <= 0) return 0;
  return static_cast<double>(report.batch_size) * 1e3 / plan.predicted_pass_ms;
}

/// What host threads multiply in passes of the fewest token rows, as it was measured.
std::string host_text(const MachineProfile& profile) {
  std::string rates;
  for (const HostRate& rate : profile.host_rates) {
    if (rate.tokens != profile.host_rates.front().tokens) continue;
    rates +=
        fmt::format("{}{} {:.1f}", rates.empty() ? "" : ", ", codec_name(rate.codec), rate.gbps);
  }
  if (rates.empty()) return "";
  const std::string threads =
      profile.host_threads > 0 ? fmt::format("{} host threads", profile.host_threads) : "host";
  return fmt::format("           {} {} GB/s of weights, link {:.2f} GB/s meanwhile\n", threads,
                     rates, profile.shared_link_gbps);
}

/// What the host multiplies of what is not resident, by token rows of a pass.
std::string host_use_text(const PlanReport& report, const Plan& plan) {
  if (plan.host_share == HostShares{}) return "";
  std::string text;
  for (size_t c = 0; c < kSharedRows.size(); ++c) {
    text +=
        fmt::format("{}{:.2f} up to {}", c == 0 ? "" : ", ", plan.host_share[c], kSharedRows[c]);
  }
  return fmt::format("of that {} host threads multiply, at first: {} token rows",
                     report.host_threads, text);
}

std::string head_text(const PlanReport& report) {
  const MachineProfile& profile = report.profile;
  const bool from_host = report.streamed_home == Home::kHost;
  return fmt::format(
             "engine     {} ({}, {} tiles)\n"
             "machine    {}\n"
             "           {} {:.2f} GB/s, memory {:.1f} GB/s, {:.1f} GFLOP/s, {} free\n",
             report.engine_dir, report.model, report.tiles, profile.machine,
             from_host ? "link" : "disk", profile.link_gbps, profile.memory_gbps,
             profile.matmul_gflops, format_bytes(report.available_bytes)) +
         (from_host ? host_text(profile) : "");
}

std::string fit_text(const PlanReport& report, const PlannedSession& session) {
  if (session.largest_batch == 0) {
    return fmt::format("does not fit: {} are free", format_bytes(report.available_bytes));
  }
  return fmt::format("up to {} sequences of {} tokens{}", session.largest_batch,
                     report.sequence_tokens,
                     session.largest_batch == report.max_batch_size ? " (the engine's limit)" : "");
}

nlohmann::ordered_json session_json(const PlanReport& report, const PlannedSession& session) {
  const Plan& plan = session.plan;
  return {
      {"gpu_weights_percent", session.percent},
      {"budget_bytes", plan.budget_bytes},
      {"streamable_bytes", plan.streamable_bytes},
      {"bytes_by_home",
       {{"device", plan.resident_bytes},
        {"host", report.streamed_home == Home::kHost ? plan.streamed_bytes : 0},
        {"disk", report.streamed_home == Home::kDisk ? plan.streamed_bytes : 0}}},
      {"read_bytes_per_pass", plan.read_bytes},
      {"requests_per_pass", plan.requests.size()},
      {"ring",
       {{"requests", plan.ring_requests},
        {"slot_bytes", plan.ring_slot_bytes},
        {"bytes", plan.ring_bytes()}}},
      {"host_share", {{"token_rows", kSharedRows}, {"of_streamed", plan.host_share}}},
      {"memory", memory_json(session.memory)},
      {"prefill_chunk", session.prefill_chunk},
      {"largest_batch", session.largest_batch},
      {"predicted",
       {{"pass_ms", plan.predicted_pass_ms},
        {"link_ms", plan.link_ms},
        {"host_ms", plan.host_ms},
        {"memory_ms", plan.memory_ms},
        {"compute_ms", plan.compute_ms},
        {"bound", bound_name(plan.bound)},
        {"tokens_per_second", tokens_per_second(report, plan)}}},
  };
}

}  // namespace

std::string plan_text(const PlanReport& report, const PlannedSession& session) {
  const Plan& plan = session.plan;
  const MemoryReport& memory = session.memory;
  const bool from_host = report.streamed_home == Home::kHost;
  std::string text = head_text(report);
  const auto line = [&](const char* name, const std::string& value) {
    fmt::format_to(std::back_inserter(text), "{:<10} {}\n", name, value);
  };
  line("budget", fmt::format("{} of {} streamable ({:.4g} %)", format_bytes(plan.budget_bytes),
                             format_bytes(plan.streamable_bytes), 100 * session.percent));
  line("device", format_bytes(plan.resident_bytes) + " stay in fast memory");
  line(from_host ? "host" : "disk",
       fmt::format("{} stream on every pass, in {} requests", format_bytes(plan.streamed_bytes),
                   plan.requests.size()));
  if (const std::string use = host_use_text(report, plan); !use.empty()) line("", use);
  line("ring", plan.requests.empty() ? std::string("none: nothing streams")
                                     : fmt::format("{} slots of {}", plan.ring_requests,
                                                   format_bytes(plan.ring_slot_bytes)));
  line("memory",
       fmt::format("{} weights + {} ring + {} KV cache + {} scratch + {} norms and biases",
                   format_bytes(memory.weights_bytes), format_bytes(memory.ring_bytes),
                   format_bytes(memory.kv_bytes), format_bytes(memory.scratch_bytes),
                   format_bytes(memory.vectors_bytes)));
  line("",
       fmt::format("= {} for a batch of {} with {} tokens a sequence",
                   format_bytes(memory.total_bytes()), report.batch_size, report.sequence_tokens));
  line("fits", fit_text(report, session));
  line("pass",
       fmt::format("{:.1f} ms predicted for a decode pass of {}, {:.1f} tokens/s, bound by {}",
                   plan.predicted_pass_ms, report.batch_size, tokens_per_second(report, plan),
                   bound_name(plan.bound)));
  const std::string host = from_host ? fmt::format("host {:.1f} ms, ", plan.host_ms) : "";
  line("", fmt::format("link {:.1f} ms, {}memory {:.1f} ms, compute {:.1f} ms", plan.link_ms, host,
                       plan.memory_ms, plan.compute_ms));
  return text;
}

std::string plan_table(const PlanReport& report) {
  std::string text = head_text(report);
  fmt::format_to(std::back_inserter(text), "batch      {} with {} tokens a sequence\n\n",
                 report.batch_size, report.sequence_tokens);
  fmt::format_to(std::back_inserter(text),
                 "{:>7}  {:>10}  {:>10}  {:>10}  {:>10}  {:>10}  {:<7}  {}\n", "percent",
                 "resident", "streamed", "all memory", "ms a pass", "tokens/s", "bound by",
                 "largest batch");
  const PlannedSession* fullest = nullptr;
  for (const PlannedSession& session : report.sessions) {
    const Plan& plan = session.plan;
    fmt::format_to(
        std::back_inserter(text),
        "{:>7.2f}  {:>10}  {:>10}  {:>10}  {:>10.1f}  {:>10.1f}  {:<8}  {}\n", session.percent,
        format_bytes(plan.resident_bytes), format_bytes(plan.streamed_bytes),
        format_bytes(session.memory.total_bytes()), plan.predicted_pass_ms,
        tokens_per_second(report, plan), bound_name(plan.bound),
        session.largest_batch == 0 ? "does not fit" : std::to_string(session.largest_batch));
    if (session.largest_batch >= report.batch_size) fullest = &session;
  }
  if (fullest == nullptr) {
    fmt::format_to(
        std::back_inserter(text),
        "\nNo percentage fits a batch of {}: {} are free. Use a smaller batch or shorter "
        "sequences.\n",
        report.batch_size, format_bytes(report.available_bytes));
  } else {
    fmt::format_to(std::back_inserter(text),
                   "\nA batch of {} fits with up to {:.2f} of the weights resident; there, {}.\n",
                   report.batch_size, fullest->percent, fit_text(report, *fullest));
  }
  return text;
}

std::string plan_json(const PlanReport& report) {
  nlohmann::ordered_json sessions = nlohmann::ordered_json::array();
  for (const PlannedSession& session : report.sessions) {
    sessions.push_back(session_json(report, session));
  }
  const nlohmann::ordered_json json = {
      {"engine_dir", report.engine_dir},
      {"model", report.model},
      {"tiles", report.tiles},
      {"batch_size", report.batch_size},
      {"sequence_tokens", report.sequence_tokens},
      {"max_batch_size", report.max_batch_size},
      {"available_bytes", report.available_bytes},
      {"profile", nlohmann::ordered_json::parse(machine_profile_to_json(report.profile))},
      {"plans", sessions},
  };
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace headrace::app
