#pragma once

namespace headrace {

/// How much a line of the log matters, least first.
enum class LogLevel { kVerbose, kInfo, kWarning, kError };

}  // namespace headrace
