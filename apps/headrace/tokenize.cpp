#include "base/error.h"
#include "headrace/app.h"

namespace headrace::app {

void add_tokenize_command(App& app) {
  CLI::App* command = app.cli.add_subcommand("tokenize", "Not there yet");
  add_common_flags(app, *command);
  command->final_callback([&app] {
    app.body = [](Context&) -> int { fail(ErrorCode::kUnsupported, "[tokenize] not there yet"); };
  });
}

}  // namespace headrace::app
