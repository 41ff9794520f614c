#pragma once

#include <stdexcept>
#include <string>

namespace headrace {

/// What kind of failure an Error reports. The command line turns kUsage into exit code 2 and
/// everything else into 1.
enum class ErrorCode {
  kInvalidArgument,  ///< a flag, field or call argument that cannot be honoured
  kUsage,            ///< the command line itself is malformed
  kNotFound,         ///< a file, tensor or key that should be there is not
  kCorrupt,          ///< a file whose content contradicts itself or its checksum
  kUnsupported,      ///< well-formed input that this version cannot handle
  kIo,               ///< the operating system refused a read, write, rename, ...
  kOutOfMemory,      ///< does not fit; the message says what would
  kDevice,           ///< an accelerator failed or is missing
  kInternal,         ///< our bug (HR_CHECK)
};

/// The one exception type that this library throws. The message begins with its place in brackets
/// and ends with what would work: "[plan] 0.9 needs 12.1 GiB, 9.8 GiB are free: 0.72 fits".
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const { return code_; }

 private:
  ErrorCode code_;
};

}  // namespace headrace
