#pragma once

#include <initializer_list>

#include "headrace/app.h"

namespace headrace::app {

/// Flags of upstream's programs that have no effect here, accepted so that its users' commands go
/// on working: options take any value, switches none.
void accept_options(CLI::App& command, std::initializer_list<const char*> flags);
void accept_switches(CLI::App& command, std::initializer_list<const char*> flags);

}  // namespace headrace::app
