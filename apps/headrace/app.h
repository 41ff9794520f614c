#pragma once

#include <functional>
#include <string>

#include <CLI/CLI.hpp>

#include "base/context.h"
#include "base/log.h"

namespace headrace::app {

/// What a subcommand's body does; returns the exit code. It may throw headrace::Error, which main
/// turns into one line on standard error and exit code 1 (2 for kUsage).
using Body = std::function<int(Context&)>;

/// Flags that every command shares, and the body that the command line chose. A command registers
/// its subcommand and sets `body`, `threads` and `log_level` through the helpers below.
struct App {
  CLI::App cli{"Headrace: run language models whose weights do not fit in fast memory"};
  std::string log_level = "info";
  int threads = 0;  // 0: all processors that this process may use
  Body body;
};

/// Adds `--log_level` (with the command's default) and `--threads`.
void add_common_flags(App& app, CLI::App& command, const std::string& default_log_level = "info");

void add_convert_command(App& app);
void add_build_command(App& app);
void add_plan_command(App& app);
void add_inspect_command(App& app);
void add_tokenize_command(App& app);
void add_run_command(App& app);
void add_summarize_command(App& app);
void add_bench_command(App& app);

}  // namespace headrace::app
