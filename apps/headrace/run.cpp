#include "headrace/run.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iostream>

#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/progress.h"
#include "executor/request_check.h"
#include "headrace/ignored_flags.h"
#include "headrace/prompts.h"
#include "headrace/run_observer.h"
#include "headrace/run_output.h"
#include "headrace/sampling_flags.h"
#include "text/tokenizer.h"

namespace headrace::app {
namespace {

constexpr int32_t kMostReturnSequences = 1024;
constexpr const char* kDefaultPrompt = "A headrace is the channel that";

/// The engine's own tokenizer may be of a kind that is not known here: prompts of ids need none.
std::unique_ptr<Tokenizer> load_tokenizer(const RunFlags& flags, Context& context) {
  const bool given = !flags.tokenizer_dir.empty();
  const std::string& dir = given ? flags.tokenizer_dir : flags.session.engine_dir;
  if (!given && !Tokenizer::exists(context.fs, dir)) return nullptr;
  try {
    return Tokenizer::load(context.fs, dir);
  } catch (const Error& error) {
    if (given || flags.interactive || !holds_token_ids(flags.input_file)) throw;
    context.log.warning("{}; going on with token ids alone", error.what());
    return nullptr;
  }
}

std::vector<int32_t> end_ids(const RunFlags& flags, const Tokenizer* tokenizer,
                             int64_t vocab_size) {
  if (flags.end_id.empty()) {
    return tokenizer == nullptr ? std::vector<int32_t>{} : tokenizer->stop_ids();
  }
  const double id = parse_number(flags.end_id, "--end_id");
  if (id == -1) return {};
  if (!(id >= 0 && id < static_cast<double>(vocab_size)) || id != std::floor(id)) {
    fail(ErrorCode::kInvalidArgument, "[run] --end_id {}: use a token from 0 to {}, or -1 for none",
         flags.end_id, vocab_size - 1);
  }
  return {static_cast<int32_t>(id)};
}

/// The tokens of each word as a text begins with it, and as it follows a space.
std::vector<TokenWord> bad_words(const RunFlags& flags, const Tokenizer* tokenizer) {
  if (flags.bad_words.empty()) return {};
  if (tokenizer == nullptr) {
    fail(ErrorCode::kInvalidArgument, "[run] --bad_words needs a tokenizer: pass --tokenizer_dir");
  }
  std::vector<TokenWord> words;
  for (const std::string& word : flags.bad_words) {
    if (word.empty()) fail(ErrorCode::kInvalidArgument, "[run] --bad_words \"\": give a text");
    for (const std::string& text : {word, " " + word}) {
      words.push_back(tokenizer->encode(text, {.add_special_tokens = false}));
      if (words.back().empty()) {
        fail(ErrorCode::kInvalidArgument,
             "[run] --bad_words '{}': the tokenizer has no token for it", word);
      }
    }
  }
  return words;
}

/// requests_each() of every prompt, one after the other.
std::vector<GenerationRequest> make_requests(const RunFlags& flags,
                                             const std::vector<Prompt>& prompts,
                                             const Tokenizer* tokenizer, int64_t vocab_size) {
  GenerationRequest request{.prompt = {},
                            .max_new_tokens = flags.max_output_len,
                            .end_ids = end_ids(flags, tokenizer, vocab_size),
                            .sampling = flags.sampling,
                            .beams = flags.beams.options(),
                            .constraints = {.bad_words = bad_words(flags, tokenizer)}};
  std::vector<GenerationRequest> requests;
  for (const Prompt& prompt : prompts) {
    request.prompt = prompt.ids;
    for (int32_t i = 0; i < flags.requests_each(); ++i) {
      request.sampling.random_seed = sequence_seed(flags.sampling.random_seed, i);
      requests.push_back(request);
    }
  }
  return requests;
}

void check_num_return_sequences(const RunFlags& flags) {
  const int32_t most = flags.searches() ? flags.beams.num_beams : kMostReturnSequences;
  const int32_t asked = flags.outputs_each();
  if (asked < 1 || asked > most) {
    fail(ErrorCode::kInvalidArgument, "[run] --num_return_sequences {}: use 1 to {}{}", asked, most,
         flags.searches() ? ", no more than --num_beams" : "");
  }
  if (flags.interactive && !flags.searches() && asked > 1) {
    fail(ErrorCode::kInvalidArgument,
         "[run] --num_return_sequences {} with --interactive: a line has one answer, use 1", asked);
  }
}

SessionOptions options_for(const RunFlags& flags, const std::vector<Prompt>& prompts) {
  SessionOptions options = session_options(flags.session);
  size_t longest = 0;
  for (const Prompt& prompt : prompts) longest = std::max(longest, prompt.ids.size());
  options.limits.max_sequences = static_cast<int64_t>(prompts.size()) * flags.requests_each();
  options.limits.max_beam_width = flags.beams.num_beams;
  options.limits.max_sequence_tokens = static_cast<int64_t>(longest) + flags.max_output_len;
  check_attention_windows(flags.kv, options.limits.max_sequence_tokens);
  apply(flags.kv, options.limits);
  options.limits.context_logits = !flags.output_logits_npy.empty();
  return options;
}

const char* finish_reason_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kEndId:
      return "end_id";
    case FinishReason::kStopped:
      return "stop";
    default:
      return "length";
  }
}

nlohmann::json output_json(const OutputRow& output, const std::string& text) {
  return {{"output_ids", output.tokens},
          {"output_text", text},
          {"cum_log_prob", output.cumulative_log_prob},
          {"finish_reason", finish_reason_name(output.finish_reason)}};
}

/// The first output beside the prompt; of several, all of them in `name` too.
nlohmann::json result_json(const Prompt& prompt, std::span<const OutputRow> outputs,
                           std::span<const std::string> texts, const char* name) {
  nlohmann::json json = output_json(outputs[0], texts[0]);
  json["input_text"] = prompt.text;
  json["input_ids"] = prompt.ids;
  for (size_t i = 0; outputs.size() > 1 && i < outputs.size(); ++i) {
    json[name].push_back(output_json(outputs[i], texts[i]));
  }
  return json;
}

void print_result(size_t number, const Prompt& prompt, std::span<const OutputRow> beams,
                  std::span<const std::string> texts) {
  std::printf("Input [Text %zu]: \"%s\"\n", number, prompt.text.c_str());
  for (size_t i = 0; i < beams.size(); ++i) print_beam(number, i, texts[i], beams[i].tokens);
}

void print_results(const RunFlags& flags, const std::vector<Prompt>& prompts,
                   std::span<const OutputRow> outputs, RunObserver& observer) {
  nlohmann::json all = nlohmann::json::array();
  const auto each = static_cast<size_t>(flags.outputs_each());
  for (size_t i = 0; i < prompts.size(); ++i) {
    const std::span<const OutputRow> own = outputs.subspan(i * each, each);
    std::vector<std::string> texts;
    for (size_t j = 0; j < each; ++j) {
      texts.push_back(flags.searches() ? observer.beam_text(own[j].tokens)
                                       : observer.finish(i * each + j));
    }
    if (flags.json) {
      all.push_back(result_json(prompts[i], own, texts, flags.searches() ? "beams" : "sequences"));
      continue;
    }
    if (flags.prints_stream()) std::printf("\n");
    print_result(i, prompts[i], own, texts);
  }
  using ErrorHandler = nlohmann::json::error_handler_t;
  if (flags.json) std::printf("%s\n", all.dump(2, ' ', false, ErrorHandler::replace).c_str());
}

/// To standard error where standard output is JSON.
void print_profiling(const Session& session, bool json) {
  const GenerationStats& stats = session.stats();
  const double total_ms = stats.prefill_ms + stats.decode_ms;
  FILE* const out = json ? stderr : stdout;
  std::fprintf(out, "batch_size: %lld, avg latency (of 1 iteration): %.3f sec\n",
               static_cast<long long>(session.limits().max_sequences), total_ms / 1e3);
  std::fprintf(out, "prefill: %.1f tokens per second, decode: %.1f tokens per second\n",
               1e3 * static_cast<double>(stats.prompt_tokens) / stats.prefill_ms,
               1e3 * static_cast<double>(stats.generated_tokens) / total_ms);
}

void generate(const RunFlags& flags, const std::vector<Prompt>& prompts, const Tokenizer* tokenizer,
              Session& session, Context& context) {
  const OutputShape shape{.each = flags.outputs_each(), .searches = flags.searches()};
  std::unique_ptr<LogitsFiles> logits;
  if (!flags.output_logits_npy.empty()) {
    logits =
        std::make_unique<LogitsFiles>(context.fs, flags.output_logits_npy, prompts, shape,
                                      flags.max_output_len, session.engine().model().vocab_size);
  }
  const std::vector<GenerationRequest> requests =
      make_requests(flags, prompts, tokenizer, session.engine().model().vocab_size);
  RunObserver observer(flags, tokenizer, requests.size(), logits.get(), context.progress);
  context.progress.start("Generating",
                         requests.size() * static_cast<uint64_t>(flags.max_output_len), "tokens");
  const std::vector<GenerationResult> results = session.generate(requests, &observer);
  context.progress.finish();
  const std::vector<OutputRow> outputs = output_rows(results, shape);
  print_results(flags, prompts, outputs, observer);
  if (logits != nullptr) logits->commit();
  const int32_t pad = requests[0].end_ids.empty() ? -1 : requests[0].end_ids[0];
  write_token_files(context.fs, {.csv = flags.output_csv, .npy = flags.output_npy}, prompts,
                    outputs, flags.max_output_len, pad);
  write_log_prob_files(
      context.fs, {.all = flags.output_log_probs_npy, .cumulative = flags.output_cum_log_probs_npy},
      outputs, shape.each, flags.max_output_len);
  if (flags.run_profiling) print_profiling(session, flags.json);
  const std::string summary = streaming_summary(session);
  if (!summary.empty()) context.log.info("{}", summary);
}

/// Answers a line; with --chat it is the conversation's next message, and the answer the one after.
void answer(const RunFlags& flags, const std::string& line, const Tokenizer& tokenizer,
            Session& session, std::vector<ChatMessage>& conversation, Context& context) {
  const bool searches = flags.searches();
  Prompt prompt{.text = line, .ids = {}};
  std::vector<ChatMessage> messages = conversation;
  if (flags.chat) {
    messages.push_back({"user", line});
    prompt.ids =
        tokenizer.encode(tokenizer.apply_chat_template(messages), {.add_special_tokens = false});
  } else {
    prompt.ids = tokenizer.encode(line, {});
  }
  const std::vector<Prompt> prompts = {prompt};
  const std::vector<GenerationRequest> requests =
      make_requests(flags, prompts, &tokenizer, session.engine().model().vocab_size);
  RunObserver observer(flags, &tokenizer, 1, nullptr, context.progress);
  const std::vector<GenerationResult> results = session.generate(requests, &observer);
  std::string text = searches ? observer.beam_text(results[0].tokens) : observer.finish(0);
  std::printf("%s\n", searches ? text.c_str() : "");
  messages.push_back({"assistant", std::move(text)});
  conversation = std::move(messages);
}

/// Reads a line, answers it, until the input ends. A line that cannot be answered ends nothing.
int run_interactive(RunFlags& flags, const Tokenizer* tokenizer, Context& context) {
  if (tokenizer == nullptr) {
    fail(ErrorCode::kInvalidArgument,
         "[run] --interactive needs a tokenizer: pass --tokenizer_dir");
  }
  flags.streaming = !flags.searches();  // beams replace each other: the best is shown at the end
  flags.streaming_interval = 1;
  flags.json = false;  // answers are text
  SessionOptions options = session_options(flags.session);
  options.limits.max_sequences = 1;
  options.limits.max_beam_width = flags.beams.num_beams;
  apply(flags.kv, options.limits);
  const auto session = Session::open(options, context);
  check_attention_windows(flags.kv, session->limits().max_sequence_tokens);
  report_plan(*session, context.log);
  std::vector<ChatMessage> conversation;
  std::string line;
  while (std::printf("> "), std::fflush(stdout), std::getline(std::cin, line)) {
    if (line.empty()) continue;
    try {
      answer(flags, line, *tokenizer, *session, conversation, context);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kInvalidArgument) throw;
      context.log.error("{}", error.what());
    }
  }
  write_reports(flags.session, *session, context);
  return 0;
}

int run(RunFlags& flags, Context& context) {
  require_engine(flags.session, context);
  validate_sampling_params(flags.sampling);
  validate_beam_search_options(flags.beams.options());
  check_num_return_sequences(flags);
  start_trace(flags.session, context);
  const auto tokenizer = load_tokenizer(flags, context);
  if (flags.max_output_len < 1 || flags.max_output_len > kMostOfEngines) {
    fail(ErrorCode::kInvalidArgument, "[run] --max_output_len {}: use 1 to {}",
         flags.max_output_len, kMostOfEngines);
  }
  bad_words(flags, tokenizer.get());  // before anything large is loaded
  if (flags.interactive) return run_interactive(flags, tokenizer.get(), context);
  const PromptOptions prompt_options{
      .tokenizer = tokenizer.get(), .chat = flags.chat, .max_input_length = flags.max_input_length};
  if (flags.input_text.empty()) flags.input_text = {kDefaultPrompt};
  const std::vector<Prompt> prompts =
      flags.input_file.empty() ? prompts_from_texts(flags.input_text, prompt_options, context)
                               : prompts_from_file(flags.input_file, prompt_options, context);
  const auto session = Session::open(options_for(flags, prompts), context);
  report_plan(*session, context.log);
  generate(flags, prompts, tokenizer.get(), *session, context);
  write_reports(flags.session, *session, context);
  return 0;
}

void add_output_flags(CLI::App& command, RunFlags& flags) {
  command.add_option("--output_csv", flags.output_csv, "Write prompt + output ids, a row each");
  command.add_option("--output_npy", flags.output_npy, "The same as an int32 matrix");
  command.add_option("--output_logits_npy", flags.output_logits_npy,
                     "X.npy: writes X_context.npy and X_generation.npy, float32");
  command.add_option("--output_log_probs_npy", flags.output_log_probs_npy,
                     "Log probabilities of the generated tokens");
  command.add_option("--output_cum_log_probs_npy", flags.output_cum_log_probs_npy,
                     "Their sums, one a prompt");
  command.add_flag("--run_profiling", flags.run_profiling, "Print latency and tokens per second");
  command.add_flag("--streaming", flags.streaming, "Print text as it is generated");
  command
      .add_option("--streaming_interval", flags.streaming_interval,
                  "Tokens between two prints (default 5)")
      ->check(CLI::Range(int64_t{1}, kMostOfEngines));
  command.add_flag("--json", flags.json, "Print results as JSON");
}

}  // namespace

void add_run_command(App& app) {
  CLI::App* command = app.cli.add_subcommand("run", "Generate text from prompts");
  auto flags = std::make_shared<RunFlags>();  // lives as long as the callbacks below
  command->footer(
      "Example:\n  headrace run --engine_dir ENGINE --input_text \"The capital of France is\" "
      "--max_output_len 20 --gpu_weights_percent 0.2");
  add_common_flags(app, *command);
  add_session_flags(*command, flags->session);
  add_percent_flag(*command, flags->session,
                   "Share of the weights kept in fast memory, 0.0 to 1.0, or auto (default 1)");
  command->add_option("--tokenizer_dir", flags->tokenizer_dir,
                      "Folder of the tokenizer (default: the engine's)");
  CLI::Option* const text = command->add_option("--input_text", flags->input_text, "Prompts");
  command
      ->add_option("--input_file", flags->input_file,
                   "Prompts from .txt (a line each), .csv or .npy (token ids)")
      ->excludes(text);
  command->add_option("--max_output_len", flags->max_output_len,
                      "Tokens to generate (default 100)");
  command
      ->add_option("--max_input_length", flags->max_input_length,
                   "Cut prompts to their last N tokens (default, and 0: never)")
      ->check(CLI::NonNegativeNumber);
  command->add_flag("--chat", flags->chat, "Wrap each prompt in the model's chat template");
  command->add_flag("--interactive", flags->interactive, "Answer lines from standard input");
  add_output_flags(*command, *flags);
  add_sampling_flags(*command, flags->sampling);
  add_beam_flags(*command, flags->beams);
  command->add_option("--end_id", flags->end_id, "Token that ends a sequence; -1: none");
  command->add_option("--stop_words", flags->stop_words, "Text that ends a sequence");
  command->add_option("--bad_words", flags->bad_words,
                      "Texts that are never completed, token by token as the tokenizer cuts them");
  command->add_option("--num_return_sequences", flags->num_return_sequences,
                      "Sequences of each prompt: drawn apart (default 1), or the best beams of a "
                      "search (default: all)");
  add_kv_flags(*command, flags->kv);
  accept_switches(*command, {"--no_prompt_template", "--use_py_session"});
  command->final_callback(
      [&app, flags] { app.body = [flags](Context& context) { return run(*flags, context); }; });
}

}  // namespace headrace::app
