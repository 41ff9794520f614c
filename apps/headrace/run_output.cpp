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

void write_token_files(FileSystem& fs, const TokenFiles& files, const std::vector<Prompt>& prompts,
                       const std::vector<GenerationResult>& results, int64_t max_output_len,
                       int32_t pad) {
  if (files.csv.empty() && files.npy.empty()) return;
  const int64_t width = longest_prompt(prompts) + max_output_len;
  std::vector<std::vector<int32_t>> rows;
  for (size_t i = 0; i < prompts.size(); ++i) {
    std::vector<int32_t> row = prompts[i].ids;
    row.insert(row.end(), results[i].tokens.begin(), results[i].tokens.end());
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
                          const std::vector<GenerationResult>& results, int64_t max_output_len) {
  const auto count = static_cast<int64_t>(results.size());
  if (!files.all.empty()) {
    NpyWriter writer(fs, files.all, NpyDType::kFloat32, {count, 1, max_output_len});
    for (const GenerationResult& result : results) {
      std::vector<float> row = result.log_probs;
      row.resize(static_cast<size_t>(max_output_len), 0.0f);
      writer.append(std::span<const float>(row));
    }
    writer.commit();
  }
  if (!files.cumulative.empty()) {
    NpyWriter writer(fs, files.cumulative, NpyDType::kFloat32, {count, 1});
    for (const GenerationResult& result : results) {
      const auto sum = static_cast<float>(result.cumulative_log_prob);
      writer.append(std::span(&sum, 1));
    }
    writer.commit();
  }
}

LogitsFiles::LogitsFiles(FileSystem& fs, const std::string& path,
                         const std::vector<Prompt>& prompts, int64_t max_output_len,
                         int64_t vocab_size)
    : max_output_len_(max_output_len),
      context_(fs, stem(path) + "_context.npy", NpyDType::kFloat32,
               {total_prompt_tokens(prompts), vocab_size}),
      generation_(fs, stem(path) + "_generation.npy", NpyDType::kFloat32,
                  {static_cast<int64_t>(prompts.size()), 1, max_output_len, vocab_size}) {}

void LogitsFiles::add_context(std::span<const float> logits) { context_.append(logits); }

void LogitsFiles::set_generation(size_t prompt, int64_t step, std::span<const float> logits) {
  generation_.write_row(static_cast<int64_t>(prompt) * max_output_len_ + step, logits);
}

void LogitsFiles::commit() {
  context_.commit();
  generation_.commit();
}

}  // namespace headrace::app
