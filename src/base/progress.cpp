#include "base/progress.h"

#include <algorithm>
#include <cstdio>
#include <string>

#include <fmt/format.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/format.h"

namespace headrace {
namespace {

constexpr int64_t kNsPerSecond = 1'000'000'000;
constexpr int64_t kRedrawNs = kNsPerSecond / 10;
constexpr int64_t kLineNs = 5 * kNsPerSecond;
constexpr int64_t kQuietNs = 2 * kNsPerSecond;
constexpr size_t kBarWidth = 30;

class TextProgress : public Progress {
 public:
  TextProgress(const Clock& clock, bool terminal) : clock_(clock), terminal_(terminal) {}

  void start(std::string_view task, uint64_t total, std::string_view unit) override {
    task_ = task;
    unit_ = unit;
    total_ = total;
    done_ = 0;
    shown_ = false;
    start_ns_ = clock_.now_ns();
    next_ns_ = start_ns_ + (terminal_ ? kRedrawNs : kQuietNs);
  }

  void update(uint64_t done) override {
    done_ = done;
    const int64_t now = clock_.now_ns();
    if (now < next_ns_) return;
    next_ns_ = now + (terminal_ ? kRedrawNs : kLineNs);
    draw(now);
  }

  void finish() override {
    done_ = total_;
    if (shown_) draw(clock_.now_ns());
    if (shown_ && terminal_) std::fputc('\n', stderr);
    shown_ = false;
  }

 private:
  void draw(int64_t now) {
    shown_ = true;
    const double fraction =
        total_ == 0 ? 1.0 : static_cast<double>(done_) / static_cast<double>(total_);
    const double seconds = static_cast<double>(now - start_ns_) / 1e9;
    const double rate = seconds > 0 ? static_cast<double>(done_) / seconds : 0;
    std::string amounts;
    if (unit_ == "bytes") {
      amounts = fmt::format("{} of {}, {}/s", format_bytes(done_), format_bytes(total_),
                            format_bytes(static_cast<uint64_t>(rate)));
    } else {
      amounts = fmt::format("{} of {} {}", done_, total_, unit_);
    }
    std::string text;
    if (terminal_) {
      const auto filled = std::min(kBarWidth, static_cast<size_t>(fraction * kBarWidth));
      text = fmt::format("\r{} [{}{}] {:3.0f} %  {}\x1b[K", task_, std::string(filled, '#'),
                         std::string(kBarWidth - filled, '.'), 100 * fraction, amounts);
    } else {
      text = fmt::format("{}: {:.0f} %, {}\n", task_, 100 * fraction, amounts);
    }
    std::fwrite(text.data(), 1, text.size(), stderr);
    std::fflush(stderr);
  }

  const Clock& clock_;
  const bool terminal_;
  std::string task_;
  std::string unit_;
  uint64_t total_ = 0;
  uint64_t done_ = 0;
  int64_t start_ns_ = 0;
  int64_t next_ns_ = 0;
  bool shown_ = false;
};

class NullProgress : public Progress {
 public:
  void start(std::string_view, uint64_t, std::string_view) override {}
  void update(uint64_t) override {}
  void finish() override {}
};

}  // namespace

std::unique_ptr<Progress> make_progress(const Clock& clock) {
  return std::make_unique<TextProgress>(clock, ::isatty(STDERR_FILENO) == 1);
}

std::unique_ptr<Progress> make_null_progress() { return std::make_unique<NullProgress>(); }

}  // namespace headrace
