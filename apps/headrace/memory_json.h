#pragma once

#include <nlohmann/json.hpp>

#include "executor/session.h"

namespace headrace::app {

/// What a session takes, in bytes, as `plan --json` and `--stats_json` both show it.
nlohmann::ordered_json memory_json(const MemoryReport& memory);

}  // namespace headrace::app
