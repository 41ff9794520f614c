#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/thread_pool.h"
#include "base/trace.h"
#include "base/version.h"
#include "headrace/app.h"

namespace headrace::app {
namespace {

constexpr int kExitError = 1;
constexpr int kExitUsage = 2;

int run_body(App& app) {
  const SteadyClock clock;
  const auto log = make_stderr_log(parse_log_level(app.log_level));
  const auto progress = make_progress(clock);
  ThreadPool pool(app.threads == 0 ? available_processors() : app.threads);
  Trace trace(clock);  // records nothing until --trace enables it
  Context context{.fs = posix_file_system(),
                  .pool = pool,
                  .log = *log,
                  .progress = *progress,
                  .clock = clock,
                  .trace = trace};
  return app.body(context);
}

void print_error(const std::string& message) {
  std::string line = message;
  for (char& c : line) {
    if (c == '\n') c = ' ';
  }
  std::fflush(stdout);
  std::fprintf(stderr, "headrace: error: %s\n", line.c_str());
}

/// What is wrong with the command line. An argument that nobody knows comes first: a misspelt flag
/// is why a required one is missing.
std::string usage_message(const CLI::App& cli, const CLI::ParseError& error) {
  const std::vector<std::string> unknown = cli.remaining(/*recurse=*/true);
  return unknown.empty() ? error.what()
                         : fmt::format("The following argument was not expected: {}", unknown[0]);
}

/// A file that is opened later must not become a standard stream that the caller closed: progress
/// would be written into it. Writes to the stand-in fail.
void occupy_standard_streams() {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
    if (::fcntl(fd, F_GETFD) == -1 && errno == EBADF) ::open("/dev/null", O_RDONLY);
  }
}

/// What a command printed has arrived, or it is an error.
void check_stdout() {
  errno = 0;
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return;
  fail(ErrorCode::kIo, "[stdout] what was printed did not arrive: {}",
       errno == 0 ? "a write failed" : std::strerror(errno));
}

int main_checked(int argc, char** argv) {
  App app;
  app.cli.require_subcommand(1);
  app.cli.set_version_flag("--version", fmt::format("headrace {}", version()));
  app.cli.failure_message(CLI::FailureMessage::simple);
  add_convert_command(app);
  add_build_command(app);
  add_plan_command(app);
  add_inspect_command(app);
  add_tokenize_command(app);
  add_run_command(app);
  add_summarize_command(app);
  add_bench_command(app);
  try {
    app.cli.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.cli.exit(error);  // --help, --version
    print_error(usage_message(app.cli, error) + " (--help lists what works)");
    return kExitUsage;
  }
  return run_body(app);
}

}  // namespace

void add_common_flags(App& app, CLI::App& command, const std::string& default_log_level) {
  command.add_option(
      "--log_level", app.log_level,
      "verbose, info, warning, error or internal_error (default " + default_log_level + ")");
  command.add_option("--threads", app.threads, "Compute threads (default: all processors)")
      ->check(CLI::Range(1, 1024));
  command.preparse_callback(
      [&app, default_log_level](size_t) { app.log_level = default_log_level; });
}

}  // namespace headrace::app

int main(int argc, char** argv) {
  headrace::app::occupy_standard_streams();
  std::signal(SIGXFSZ, SIG_IGN);  // a write past the limit is an error like others
  try {
    const int code = headrace::app::main_checked(argc, argv);
    headrace::app::check_stdout();
    return code;
  } catch (const headrace::Error& error) {
    headrace::app::print_error(error.what());
    return error.code() == headrace::ErrorCode::kUsage ? headrace::app::kExitUsage
                                                       : headrace::app::kExitError;
  } catch (const std::exception& error) {
    headrace::app::print_error(std::string("[internal] ") + error.what());
    return headrace::app::kExitError;
  }
}
