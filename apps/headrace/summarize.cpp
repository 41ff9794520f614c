#include "headrace/summarize.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/format.h"
#include "base/log.h"
#include "base/progress.h"
#include "headrace/article_prompts.h"
#include "headrace/generation_totals.h"
#include "headrace/ignored_flags.h"
#include "headrace/run_output.h"
#include "headrace/sampling_flags.h"
#include "text/dataset.h"
#include "text/detokenizer.h"
#include "text/rouge.h"
#include "text/tokenizer.h"

namespace headrace::app {
namespace {

constexpr const char* kRule = "---------------------------------------------------------";

/// The articles that come with the program: in the checkout that it was built in, or beside where
/// it was installed.
std::string default_dataset(FileSystem& fs) {
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  const std::filesystem::path folder = program.parent_path();
  for (const char* place : {"../../examples/data/articles", "../share/headrace/articles"}) {
    const std::string path = (folder / place).lexically_normal().string();
    if (!error && fs.exists(path)) return path;
  }
  fail(ErrorCode::kNotFound,
       "[summarize] the program's own articles are not beside it: pass --dataset_dir with a folder "
       "of "
       "CNN/DailyMail articles");
}

std::unique_ptr<Tokenizer> load_tokenizer(const SummarizeFlags& flags, Context& context) {
  if (!flags.tokenizer_dir.empty()) return Tokenizer::load(context.fs, flags.tokenizer_dir);
  const bool in_model =
      !flags.hf_model_dir.empty() && Tokenizer::exists(context.fs, flags.hf_model_dir);
  return Tokenizer::load(context.fs, in_model ? flags.hf_model_dir : flags.session.engine_dir);
}

void check_flags(const SummarizeFlags& flags) {
  const auto at_least_one = [](const char* name, int64_t value) {
    if (value < 1) {
      fail(ErrorCode::kInvalidArgument, "[summarize] {} {}: use 1 or more", name, value);
    }
  };
  at_least_one("--batch_size", flags.batch_size);
  at_least_one("--max_ite", flags.max_ite);
  if (flags.max_ite > (int64_t{1} << 40) / flags.batch_size) {
    fail(ErrorCode::kInvalidArgument, "[summarize] {} batches of {} are more than any set has",
         flags.max_ite, flags.batch_size);
  }
  if (flags.eval_task != "summarize") {
    fail(ErrorCode::kUnsupported, "[summarize] --eval_task {} is not there yet; use summarize",
         flags.eval_task);
  }
  if (flags.test_hf) {
    fail(ErrorCode::kUnsupported,
         "[summarize] --test_hf needs Python: run examples/summarize.py, which uses your "
         "transformers");
  }
  constexpr std::array kDataTypes = {"fp32", "fp16", "bf16", "float32", "float16", "bfloat16"};
  if (std::find(kDataTypes.begin(), kDataTypes.end(), flags.data_type) == kDataTypes.end()) {
    fail(ErrorCode::kInvalidArgument, "[summarize] --data_type '{}': use fp32, fp16 or bf16",
         flags.data_type);
  }
  validate_sampling_params(flags.sampling);
  validate_beam_search_options(flags.beams.options());
}

/// Articles of the set, at most `limit`; reads them all once, so that a broken set is refused
/// before a model is loaded.
int64_t count_articles(FileSystem& fs, const std::string& path, int64_t limit) {
  ArticleReader reader(fs, path);
  Article article;
  int64_t count = 0;
  while (count < limit && reader.next(article)) ++count;
  if (count == 0) fail(ErrorCode::kNotFound, "[summarize] {} holds no article", path);
  return count;
}

/// Appends "[index] [Beam beam] text" lines to <output_dir>/trtllm.out, which is written at the
/// end.
class OutputFile {
 public:
  OutputFile(const SummarizeFlags& flags, FileSystem& fs) : fs_(fs), directory_(flags.output_dir) {
    text_ = fmt::format("Engine path: {}\nTokenizer path: {}\n", flags.session.engine_dir,
                        flags.tokenizer_dir.empty() ? flags.hf_model_dir : flags.tokenizer_dir);
  }

  void add(int64_t index, std::span<const std::string> beams) {
    for (size_t beam = 0; !directory_.empty() && beam < beams.size(); ++beam) {
      text_ += fmt::format("[{}] [Beam {}] {}\n", index, beam, beams[beam]);
    }
  }
  void write() const {
    if (directory_.empty()) return;
    fs_.create_directories(directory_);
    write_text_file(fs_, join_path(directory_, "trtllm.out"), text_);
  }

 private:
  FileSystem& fs_;
  const std::string directory_;
  std::string text_;
};

void print_sample(const Article& article, std::span<const std::string> beams) {
  std::printf("%s\nTensorRT-LLM Generated :\n", kRule);
  std::printf(" Input : %s\n\n Reference : %s\n\n", article.article.c_str(),
              article.highlights.c_str());
  for (size_t beam = 0; beam < beams.size(); ++beam) {
    const std::string which = beams.size() == 1 ? "" : fmt::format(" [Beam {}]", beam);
    std::printf(" Output%s : %s\n", which.c_str(), beams[beam].c_str());
  }
  std::printf("%s\n", kRule);
  std::fflush(stdout);
}

/// Summarises the set batch by batch, and keeps score.
class Summarizer {
 public:
  Summarizer(const SummarizeFlags& flags, const SummaryLengths& lengths, const Tokenizer& tokenizer,
             Session& session, Context& context)
      : flags_(flags),
        lengths_(lengths),
        tokenizer_(tokenizer),
        session_(session),
        context_(context),
        output_file_(flags, context.fs),
        rouges_(static_cast<size_t>(flags.beams.num_beams)) {}

  void run(const std::string& dataset, int64_t articles) {
    ArticleReader reader(context_.fs, dataset);
    context_.progress.start("Summarizing", static_cast<uint64_t>(articles), "articles");
    for (int64_t batch = 0; batch < flags_.max_ite && read_batch(reader); ++batch) {
      run_batch();
      context_.progress.update(static_cast<uint64_t>(read_));
    }
    context_.progress.finish();
    output_file_.write();
    if (rouge().samples() == 0) {
      fail(ErrorCode::kInvalidArgument,
           "[summarize] no article is longer than --min_input_length {}: use less",
           flags_.min_input_length);
    }
  }

  void print_results() const {
    std::printf("TensorRT-LLM (total latency: %.6f sec)\n", seconds_);
    std::printf("TensorRT-LLM (total output tokens: %lld)\n", static_cast<long long>(tokens_));
    std::printf("TensorRT-LLM (tokens per second: %.6f)\n",
                static_cast<double>(tokens_) / seconds_);
    for (size_t beam = 0; beam < rouges_.size(); ++beam) {
      const RougeMean& rouge = rouges_[beam];
      std::printf("TensorRT-LLM beam %zu result\n", beam);
      std::printf("  rouge1 : %.6f\n  rouge2 : %.6f\n", rouge.rouge1(), rouge.rouge2());
      std::printf("  rougeL : %.6f\n  rougeLsum : %.6f\n", rouge.rouge_l(), rouge.rouge_lsum());
    }
  }

  /// Of the best beams.
  const RougeMean& rouge() const { return rouges_[0]; }
  const GenerationStats& totals() const { return totals_; }

 private:
  struct Sample {
    int64_t index = 0;
    Article article;
  };

  bool read_batch(ArticleReader& reader) {
    samples_.clear();
    Article article;
    while (static_cast<int64_t>(samples_.size()) < flags_.batch_size && reader.next(article)) {
      samples_.push_back({.index = read_++, .article = std::move(article)});
    }
    return !samples_.empty();
  }

  void run_batch() {
    const int64_t start_ns = context_.clock.now_ns();
    const std::vector<GenerationRequest> requests = make_requests();
    if (requests.empty()) return;
    const std::vector<GenerationResult> results = session_.generate(requests);
    add_to(totals_, session_.stats());
    std::vector<std::string> outputs;
    const OutputShape shape{.each = flags_.beams.num_beams, .searches = flags_.beams.num_beams > 1};
    for (const OutputRow& row : output_rows(results, shape)) {
      outputs.push_back(Detokenizer(tokenizer_).text_of(row.tokens));
      tokens_ += static_cast<int64_t>(row.tokens.size());
    }
    seconds_ += static_cast<double>(context_.clock.now_ns() - start_ns) / 1e9;
    const size_t beams = rouges_.size();
    for (size_t i = 0; i < samples_.size(); ++i) {
      score(samples_[i], std::span(outputs).subspan(i * beams, beams));
    }
  }

  /// The batch's requests; articles that are too short leave the batch.
  std::vector<GenerationRequest> make_requests() {
    const ArticlePromptOptions options{.tokenizer = &tokenizer_,
                                       .chat = flags_.chat,
                                       .add_special_tokens = !flags_.no_add_special_tokens,
                                       .max_input_length = lengths_.max_input_length};
    std::vector<GenerationRequest> requests;
    std::vector<Sample> kept;
    for (Sample& sample : samples_) {
      std::vector<int32_t> prompt = article_prompt(sample.article.article, options);
      if (prompt.empty() || static_cast<int64_t>(prompt.size()) <= flags_.min_input_length)
        continue;
      requests.push_back({.prompt = std::move(prompt),
                          .max_new_tokens = lengths_.output_len,
                          .end_ids = tokenizer_.stop_ids(),
                          .sampling = flags_.sampling,
                          .beams = flags_.beams.options()});
      kept.push_back(std::move(sample));
    }
    samples_ = std::move(kept);
    return requests;
  }

  void score(const Sample& sample, std::span<const std::string> beams) {
    if (rouge().samples() == 0) print_sample(sample.article, beams);
    for (size_t beam = 0; beam < beams.size(); ++beam) {
      rouges_[beam].add(headrace::rouge(sample.article.highlights, beams[beam]));
    }
    output_file_.add(sample.index, beams);
  }

  const SummarizeFlags& flags_;
  const SummaryLengths lengths_;
  const Tokenizer& tokenizer_;
  Session& session_;
  Context& context_;
  OutputFile output_file_;
  std::vector<Sample> samples_;  // of the current batch
  int64_t read_ = 0;
  std::vector<RougeMean> rouges_;  // by beam
  GenerationStats totals_;
  int64_t tokens_ = 0;  // of all outputs
  double seconds_ = 0;
};

void print_streaming(const Session& session, const GenerationStats& totals) {
  const Plan& plan = session.plan();
  const double share = plan.streamable_bytes == 0
                           ? 100.0
                           : 100.0 * static_cast<double>(plan.resident_bytes) /
                                 static_cast<double>(plan.streamable_bytes);
  std::printf("Weights: %s of %s resident (%.1f %%), %s streamed a pass\n",
              format_bytes(plan.resident_bytes).c_str(),
              format_bytes(plan.streamable_bytes).c_str(), share,
              format_bytes(plan.streamed_bytes).c_str());
  const std::string summary = streaming_summary(session, totals);
  if (!summary.empty()) std::printf("Link: %s\n", summary.c_str());
}

int summarize(const SummarizeFlags& flags, Context& context) {
  check_flags(flags);
  start_trace(flags.session, context);
  const Engine engine = Engine::open(context.fs, flags.session.engine_dir);
  const SummaryLengths lengths =
      clamp_lengths({.max_input_length = flags.max_input_length, .output_len = flags.output_len},
                    engine.build(), context.log);
  const std::string dataset =
      flags.dataset_dir.empty() ? default_dataset(context.fs) : flags.dataset_dir;
  const int64_t articles = count_articles(context.fs, dataset, flags.max_ite * flags.batch_size);
  const auto tokenizer = load_tokenizer(flags, context);

  SessionOptions options = session_options(flags.session);
  options.limits.max_sequences = flags.batch_size;
  options.limits.max_beam_width = flags.beams.num_beams;
  options.limits.max_sequence_tokens = lengths.max_input_length + lengths.output_len;
  check_attention_windows(flags.kv, options.limits.max_sequence_tokens);
  apply(flags.kv, options.limits);
  const auto session = Session::open(options, context);
  report_plan(*session, context.log);

  Summarizer summarizer(flags, lengths, *tokenizer, *session, context);
  summarizer.run(dataset, articles);
  summarizer.print_results();
  print_streaming(*session, summarizer.totals());
  write_reports(flags.session, *session, summarizer.totals(), context);
  if (flags.check_accuracy && summarizer.rouge().rouge1() < flags.rouge1_threshold) {
    fail(ErrorCode::kInvalidArgument, "[summarize] rouge1 {:.4f} is below the threshold {}",
         summarizer.rouge().rouge1(), flags.rouge1_threshold);
  }
  return 0;
}

void add_num_return_sequences(CLI::App& command) {
  command.add_option_function<std::string>(
      "--num_return_sequences",
      [](const std::string& value) {
        if (value == "1") return;
        fail(ErrorCode::kUnsupported,
             "[summarize] --num_return_sequences {}: one summary of an article is scored: use 1",
             value);
      },
      "Accepted: 1, as one summary of an article is scored");
}

void add_task_flags(CLI::App& command, SummarizeFlags& flags) {
  command.add_flag("--test_trt_llm", flags.test_trt_llm, "Run the engine (always done here)");
  command.add_flag("--test_hf", flags.test_hf, "Run transformers too: with examples/summarize.py");
  command.add_option("--hf_model_dir", flags.hf_model_dir,
                     "Folder whose tokenizer is used (default: the engine's)");
  command.add_option("--tokenizer_dir", flags.tokenizer_dir, "Folder of the tokenizer");
  command.add_option("--data_type", flags.data_type, "Of the transformers model (default fp32)");
  command.add_option(
      "--dataset_dir", flags.dataset_dir,
      "CNN/DailyMail folder or file: .jsonl, .json or .csv (default: the program's)");
  command.add_option("--output_dir", flags.output_dir, "Write the summaries to DIR/trtllm.out");
  command.add_option("--batch_size", flags.batch_size, "Articles in a batch (default 1)");
  command.add_option("--max_ite", flags.max_ite, "Batches to run (default 20)");
  command.add_option("--output_len", flags.output_len, "Tokens of a summary (default 100)");
  command.add_option("--max_input_length", flags.max_input_length,
                     "Tokens of a prompt; longer articles are cut (default 923)");
  command.add_option("--min_input_length", flags.min_input_length,
                     "Leave out prompts of so many tokens or fewer (default 0)");
  command.add_option("--eval_task", flags.eval_task, "summarize");
  command.add_flag("--check_accuracy", flags.check_accuracy, "Fail if rouge1 is too low");
  command.add_option("--tensorrt_llm_rouge1_threshold", flags.rouge1_threshold, "Default 15.0");
  command.add_flag("--no_add_special_tokens", flags.no_add_special_tokens,
                   "Leave out the tokens that the tokenizer puts around a text");
  command.add_flag("--chat", flags.chat, "Ask through the model's chat template");
}

}  // namespace

void add_summarize_command(App& app) {
  CLI::App* command =
      app.cli.add_subcommand("summarize", "Summarise news articles and score the summaries");
  auto flags = std::make_shared<SummarizeFlags>();  // lives as long as the callback below
  command->footer(
      "Example:\n  headrace summarize --engine_dir ENGINE --test_trt_llm --chat "
      "--gpu_weights_percent 0.2");
  add_common_flags(app, *command);
  add_session_flags(*command, flags->session);
  add_percent_flag(*command, flags->session,
                   "Share of the weights kept in fast memory, 0.0 to 1.0 (default 1)");
  add_task_flags(*command, *flags);
  add_sampling_flags(*command, flags->sampling);
  add_beam_flags(*command, flags->beams);
  add_num_return_sequences(*command);
  add_kv_flags(*command, flags->kv);
  accept_options(*command, {"--vocab_file"});
  accept_switches(*command, {"--use_py_session", "--debug_mode"});
  command->final_callback([&app, flags] {
    app.body = [flags](Context& context) { return summarize(*flags, context); };
  });
}

}  // namespace headrace::app
