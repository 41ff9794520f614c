#include "headrace/ignored_flags.h"

#include <string>

namespace headrace::app {
namespace {

constexpr const char* kDescription = "Accepted; has no effect here";

}  // namespace

void accept_options(CLI::App& command, std::initializer_list<const char*> flags) {
  for (const char* flag : flags) {
    command.add_option_function<std::string>(flag, [](const std::string&) {}, kDescription);
  }
}

void accept_switches(CLI::App& command, std::initializer_list<const char*> flags) {
  for (const char* flag : flags) command.add_flag(flag, kDescription);
}

}  // namespace headrace::app
