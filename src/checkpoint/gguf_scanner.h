#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/file.h"

namespace headrace {

/// Reads the front of a GGUF file value by value, through a buffer. Every length is checked against
/// what is left of the file, and the texts together against a limit, before memory is taken for it.
/// Confined to one thread.
class GgufScanner {
 public:
  explicit GgufScanner(const RandomAccessFile& file) : file_(file) {}

  uint64_t position() const { return buffer_begin_ + cursor_; }
  uint64_t left() const { return file_.size() - position(); }

  template <typename T>
  T take() {
    T value;
    take_bytes(std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }

  /// A text behind its length. Error{kCorrupt} naming `what` if it is longer than `limit`.
  std::string take_text(uint64_t limit, const char* what) {
    const auto length = take<uint64_t>();
    if (length > left() || length > limit || length > text_left_) {
      fail(ErrorCode::kCorrupt, "[gguf] {}: {} of {} bytes at byte {}", file_.path(), what, length,
           position());
    }
    text_left_ -= length;
    std::string text(length, '\0');
    take_bytes(std::as_writable_bytes(std::span(text)));
    return text;
  }

  /// Checks that `count` values of at least `bytes_each` can follow, and counts them against a
  /// limit over all arrays of the file.
  void expect(uint64_t count, uint64_t bytes_each, const char* what) {
    if (count > left() / bytes_each || count > elements_left_) {
      fail(ErrorCode::kCorrupt, "[gguf] {}: {} {} at byte {} of {}", file_.path(), count, what,
           position(), file_.size());
    }
    elements_left_ -= count;
  }

 private:
  static constexpr uint64_t kBufferBytes = 256 << 10;

  void take_bytes(std::span<std::byte> out) {
    if (out.size() > left()) {
      fail(ErrorCode::kCorrupt, "[gguf] {} ends within its header: was it cut short?",
           file_.path());
    }
    while (!out.empty()) {
      if (cursor_ == buffer_.size()) refill();
      const size_t n = std::min(out.size(), buffer_.size() - cursor_);
      std::memcpy(out.data(), buffer_.data() + cursor_, n);
      cursor_ += n;
      out = out.subspan(n);
    }
  }

  void refill() {
    buffer_begin_ = position();
    cursor_ = 0;
    buffer_.resize(std::min(kBufferBytes, file_.size() - buffer_begin_));
    file_.read(buffer_begin_, buffer_);
  }

  const RandomAccessFile& file_;
  std::vector<std::byte> buffer_;
  uint64_t buffer_begin_ = 0;
  size_t cursor_ = 0;
  uint64_t text_left_ = uint64_t{128} << 20;
  uint64_t elements_left_ = uint64_t{4} << 20;
};

}  // namespace headrace
