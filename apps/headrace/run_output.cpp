#include "headrace/run_output.h"

#include <algorithm>

#include "base/error.h"

namespace headrace::app {
namespace {

int64_t longest_prompt(const std::vector<Prompt>& prompts) {
  size_t longest = 0;
  for (const Prompt& prompt : prompts) longest = std::max(longest, prompt.ids.size());
  return static_cast<int64_t>(longest);
}

int64_t total_prompt_tokens(const std::vector<Prompt>& prompts) {
  size_t total = 0;
  for (const Prompt& prompt : prompts) total += prompt.ids.size();
  return static_cast<int64_t>(total);
}

std::string stem(const std::string& path) {
  return path.ends_with(".npy") ? path.substr(0, path.size() - 4) : path;
}

}  // namespace

std::vector<OutputRow> output_rows(const std::vector<GenerationResult>& results,
                                   const OutputShape& shape) {
  const auto each = static_cast<size_t>(shape.each);
  std::vector<OutputRow> rows;
  for (size_t i = 0; i < results.size(); ++i) {
    const GenerationResult& result = results[i];
    if (!shape.searches) {
      rows.push_back({.prompt = i / each,
                      .tokens = result.tokens,
                      .log_probs = result.log_probs,
                      .cumulative_log_prob = result.cumulative_log_prob,
                      .finish_reason = result.finish_reason});
      continue;
    }
    for (size_t beam = 0; beam < each; ++beam) {
      OutputRow& row = rows.emplace_back(OutputRow{.prompt = i});
      if (beam >= result.beams.size()) continue;
      const BeamHypothesis& found = result.beams[beam];
      row.tokens = found.tokens;
      row.log_probs = found.log_probs;
      row.cumulative_log_prob = static_cast<double>(found.cumulative_log_prob);
      row.finish_reason = finish_reason_of(found.end);
    }
  }
  return rows;
}

void write_token_files(FileSystem& fs, const TokenFiles& files, const std::vector<Prompt>& prompts,
                       std::span<const OutputRow> outputs, int64_t max_output_len, int32_t pad) {
  if (files.csv.empty() && files.npy.empty()) return;
  const int64_t width = longest_prompt(prompts) + max_output_len;
  std::vector<std::vector<int32_t>> rows;
  for (const OutputRow& output : outputs) {
    std::vector<int32_t> row = prompts[output.prompt].ids;
    row.insert(row.end(), output.tokens.begin(), output.tokens.end());
    row.resize(static_cast<size_t>(width), pad);
    rows.push_back(std::move(row));
  }
  if (!files.csv.empty()) {
    std::string text;
    for (const auto& row : rows) text += fmt::format("{}\n", fmt::join(row, ","));
    write_text_file(fs, files.csv, text);
  }
  if (!files.npy.empty()) {
    NpyWriter writer(fs, files.npy, NpyDType::kInt32, {static_cast<int64_t>(rows.size()), width});
    for (const auto& row : rows) writer.append(std::span<const int32_t>(row));
    writer.commit();
  }
}

void write_log_prob_files(FileSystem& fs, const LogProbFiles& files,
                          std::span<const OutputRow> outputs, int64_t outputs_each,
                          int64_t max_output_len) {
  const int64_t prompts = static_cast<int64_t>(outputs.size()) / outputs_each;
  if (!files.all.empty()) {
    NpyWriter writer(fs, files.all, NpyDType::kFloat32, {prompts, outputs_each, max_output_len});
    std::vector<float> all(outputs.size() * static_cast<size_t>(max_output_len));
    for (size_t i = 0; i < outputs.size(); ++i) {
      const size_t begin = i * static_cast<size_t>(max_output_len);
      std::ranges::copy(outputs[i].log_probs, all.begin() + static_cast<ptrdiff_t>(begin));
    }
    writer.append(std::span<const float>(all));
    writer.commit();
  }
  if (!files.cumulative.empty()) {
    NpyWriter writer(fs, files.cumulative, NpyDType::kFloat32, {prompts, outputs_each});
    std::vector<float> sums;
    for (const OutputRow& output : outputs) {
      sums.push_back(static_cast<float>(output.cumulative_log_prob));
    }
    writer.append(std::span<const float>(sums));
    writer.commit();
  }
}

LogitsFiles::LogitsFiles(FileSystem& fs, const std::string& path,
                         const std::vector<Prompt>& prompts, const OutputShape& shape,
                         int64_t max_output_len, int64_t vocab_size)
    : shape_(shape),
      max_output_len_(max_output_len),
      searches_(shape.searches ? prompts.size() : 0, BeamLogits(vocab_size)),
      context_(fs, stem(path) + "_context.npy", NpyDType::kFloat32,
               {total_prompt_tokens(prompts), vocab_size}),
      generation_(fs, stem(path) + "_generation.npy", NpyDType::kFloat32,
                  {static_cast<int64_t>(prompts.size()), shape.each, max_output_len, vocab_size}) {}

void LogitsFiles::add_context(size_t request, std::span<const float> logits) {
  const bool first = shape_.searches || request % static_cast<size_t>(shape_.each) == 0;
  if (first) context_.append(logits);
}

void LogitsFiles::set_generation(size_t request, int64_t step, std::span<const float> logits) {
  if (shape_.searches) {
    searches_[request].add(step, logits);
    return;
  }
  generation_.write_row(static_cast<int64_t>(request) * max_output_len_ + step, logits);
}

void LogitsFiles::end_beams(size_t prompt, std::span<const BeamHypothesis> found) {
  for (size_t beam = 0; beam < std::min(found.size(), static_cast<size_t>(shape_.each)); ++beam) {
    const int64_t first =
        (static_cast<int64_t>(prompt) * shape_.each + static_cast<int64_t>(beam)) * max_output_len_;
    for (size_t step = 0; step < found[beam].rows.size(); ++step) {
      generation_.write_row(first + static_cast<int64_t>(step),
                            searches_[prompt].row(found[beam], step));
    }
  }
  searches_[prompt].clear();
}

void LogitsFiles::commit() {
  context_.commit();
  generation_.commit();
}

}  // namespace headrace::app
