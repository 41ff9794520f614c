#pragma once

#include <cstdint>

namespace headrace {

/// When a tile's checksum is compared and the escapes of its coded rows are counted: on its first
/// arrival in fast memory, on every one, or never. Never, a damaged or forged tile gives wrong
/// numbers: what reads rows reads nothing beyond them, whatever they hold.
enum class VerifyMode : uint8_t { kFirst, kAlways, kNever };

/// How the disk link reads: io_uring where the system allows it and a pool of reading threads
/// otherwise, or one of them by force.
enum class IoMode : uint8_t { kAuto, kUring, kPread };

/// Whether reads go past the page cache (O_DIRECT): where the file system allows it, or by force.
enum class DirectMode : uint8_t { kAuto, kOn, kOff };

struct StreamOptions {
  VerifyMode verify = VerifyMode::kFirst;
  IoMode io = IoMode::kAuto;
  DirectMode direct = DirectMode::kAuto;
};

}  // namespace headrace
