#include "base/error.h"

#include <cerrno>
#include <system_error>

namespace headrace {

void fail_io(const char* place, const char* action, const std::string& path, int error_number) {
  const std::string reason = std::generic_category().message(error_number);
  const ErrorCode code = error_number == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo;
  fail(code, "[{}] cannot {} {}: {}", place, action, path, reason);
}

void check_failed(const char* condition, const char* file, int line) {
  fail(ErrorCode::kInternal, "[internal] {}:{}: {} does not hold; please report this", file, line,
       condition);
}

}  // namespace headrace
