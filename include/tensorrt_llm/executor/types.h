#pragma once

// Clients that include this header alone find small types, modes and stats in it.
#include "tensorrt_llm/executor/basicTypes.h"    // IWYU pragma: export
#include "tensorrt_llm/executor/decodingMode.h"  // IWYU pragma: export
#include "tensorrt_llm/executor/stats.h"         // IWYU pragma: export
