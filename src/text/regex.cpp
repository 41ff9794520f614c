#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/regex.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <utility>

#include <pcre2.h>

#include "base/error.h"
#include "text/regex_dialect.h"

namespace headrace::text {
namespace {

constexpr size_t kMaxPatternBytes = 64 << 10;
constexpr size_t kJitStackStart = 64 << 10;
// Reserved address space, used only by matches over megabytes that need to remember every step.
constexpr size_t kJitStackMax = size_t{1} << 30;
constexpr uint64_t kFreeSteps = 1'000'000;
constexpr uint64_t kStepsPerByte = 16;
constexpr uint32_t kInterpreterHeapKib = 2u << 20;

struct CodeFree {
  void operator()(pcre2_code* p) const { pcre2_code_free(p); }
};
struct MatchDataFree {
  void operator()(pcre2_match_data* p) const { pcre2_match_data_free(p); }
};
struct MatchContextFree {
  void operator()(pcre2_match_context* p) const { pcre2_match_context_free(p); }
};
struct CompileContextFree {
  void operator()(pcre2_compile_context* p) const { pcre2_compile_context_free(p); }
};
struct JitStackFree {
  void operator()(pcre2_jit_stack* p) const { pcre2_jit_stack_free(p); }
};

std::string message_of(int error) {
  std::array<PCRE2_UCHAR, 256> buffer{};
  pcre2_get_error_message(error, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

PCRE2_SPTR units(std::string_view text) { return reinterpret_cast<PCRE2_SPTR>(text.data()); }

std::unique_ptr<pcre2_code, CodeFree> compile(std::string_view pattern, std::string_view shown,
                                              uint32_t options) {
  if (pattern.size() > kMaxPatternBytes) {
    fail(ErrorCode::kUnsupported, "[tokenizer] a pattern of {} bytes: at most {} are supported",
         pattern.size(), kMaxPatternBytes);
  }
  const std::unique_ptr<pcre2_compile_context, CompileContextFree> context(
      pcre2_compile_context_create(nullptr));
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE offset = 0;
  std::unique_ptr<pcre2_code, CodeFree> code(pcre2_compile(
      units(pattern), pattern.size(), options | PCRE2_UTF, &error, &offset, context.get()));
  if (code == nullptr) {
    fail(ErrorCode::kUnsupported,
         "[tokenizer] the pattern '{}' is not supported ({}); token ids still work", shown,
         message_of(error));
  }
  pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);  // without, the interpreter does the work
  return code;
}

}  // namespace

struct Regex::Code {
  std::unique_ptr<pcre2_code, CodeFree> compiled;
};

Regex::Regex(std::string_view pattern) : code_(std::make_unique<Code>()) {
  code_->compiled = compile(translate_pattern(pattern), pattern,
                            PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C);
}

Regex::Regex(std::unique_ptr<Code> code) : code_(std::move(code)) {}

Regex Regex::literal(std::string_view text) {
  auto code = std::make_unique<Code>();
  code->compiled = compile(text, text, PCRE2_LITERAL);
  return Regex(std::move(code));
}

Regex::~Regex() = default;
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;

struct Regex::Scanner::State {
  const pcre2_code* code;
  std::unique_ptr<pcre2_match_data, MatchDataFree> data;
  std::unique_ptr<pcre2_match_context, MatchContextFree> context;
  std::unique_ptr<pcre2_jit_stack, JitStackFree> stack;
};

Regex::Scanner::Scanner(const Regex& regex) : state_(std::make_unique<State>()) {
  state_->code = regex.code_->compiled.get();
  state_->data.reset(pcre2_match_data_create_from_pattern(state_->code, nullptr));
  state_->context.reset(pcre2_match_context_create(nullptr));
  if (state_->data == nullptr || state_->context == nullptr) throw std::bad_alloc();
  pcre2_set_depth_limit(state_->context.get(), std::numeric_limits<uint32_t>::max());
  pcre2_set_heap_limit(state_->context.get(), kInterpreterHeapKib);
}

Regex::Scanner::~Scanner() = default;
Regex::Scanner::Scanner(Scanner&&) noexcept = default;

int Regex::Scanner::match(std::string_view text, size_t from) {
  State& s = *state_;
  // Enough for any pattern that looks at each character a few times, an end for those that run
  // away.
  const uint64_t limit = kFreeSteps + kStepsPerByte * uint64_t{text.size() - from};
  pcre2_set_match_limit(s.context.get(), static_cast<uint32_t>(std::min<uint64_t>(
                                             limit, std::numeric_limits<uint32_t>::max())));
  const auto attempt = [&](uint32_t options) {
    return pcre2_match(s.code, units(text), text.size(), from, options, s.data.get(),
                       s.context.get());
  };
  int result = attempt(PCRE2_NO_UTF_CHECK);
  if (result == PCRE2_ERROR_JIT_STACKLIMIT && s.stack == nullptr) {
    s.stack.reset(pcre2_jit_stack_create(kJitStackStart, kJitStackMax, nullptr));
    pcre2_jit_stack_assign(s.context.get(), nullptr, s.stack.get());
    result = attempt(PCRE2_NO_UTF_CHECK);
  }
  if (result == PCRE2_ERROR_JIT_STACKLIMIT) result = attempt(PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT);
  return result;
}

std::optional<Span> Regex::Scanner::next(std::string_view text, size_t from) {
  while (from < text.size()) {
    const int result = match(text, from);
    if (result == PCRE2_ERROR_NOMATCH) return std::nullopt;
    if (result < 0) {
      fail(ErrorCode::kUnsupported,
           "[tokenizer] a text of {} bytes is too hard for the tokenizer's pattern ({}): try less "
           "text at once",
           text.size(), message_of(result));
    }
    const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(state_->data.get());
    if (bounds[1] > bounds[0]) return Span{bounds[0], bounds[1]};
    from = bounds[0];  // an empty match: look again one character on
    if (from < text.size()) {
      do {
        ++from;
      } while (from < text.size() && (static_cast<uint8_t>(text[from]) & 0xC0) == 0x80);
    }
  }
  return std::nullopt;
}

}  // namespace headrace::text
