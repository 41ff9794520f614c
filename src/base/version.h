#pragma once

namespace headrace {

/// The project's version, as in "0.1.0".
const char* version() noexcept;

}  // namespace headrace
