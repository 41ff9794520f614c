#include "text/normalizer.h"

#include <algorithm>
#include <cstdint>

#include <utf8proc.h>

#include "base/error.h"
#include "text/unicode.h"

namespace headrace::text {
namespace {

bool is_compatibility(UnicodeForm form) {
  return form == UnicodeForm::kNfkc || form == UnicodeForm::kNfkd;
}
bool is_composed(UnicodeForm form) {
  return form == UnicodeForm::kNfc || form == UnicodeForm::kNfkc;
}

/// Below this, text is its own normal form: nothing decomposes, composes or is reordered.
bool is_plain(std::string_view valid, UnicodeForm form) {
  const bool latin1 = form == UnicodeForm::kNfc;
  return std::all_of(valid.begin(), valid.end(), [latin1](char c) {
    const auto byte = static_cast<uint8_t>(c);
    return byte < (latin1 ? 0xCC : 0x80);  // lead bytes below 0xCC: code points below U+0300
  });
}

int combining_class(utf8proc_int32_t code) { return utf8proc_get_property(code)->combining_class; }

void decompose(char32_t code, utf8proc_option_t options, std::vector<utf8proc_int32_t>& out) {
  constexpr utf8proc_ssize_t kLongest = 32;  // U+FDFA decomposes into 18
  utf8proc_int32_t buffer[kLongest];
  int boundary = 0;
  const auto n = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(code), buffer, kLongest,
                                         options, &boundary);
  HR_CHECK(n >= 0 && n <= kLongest);
  out.insert(out.end(), buffer, buffer + n);
}

/// Sorts each run of combining marks by class, keeping the order of equals. utf8proc's own ordering
/// takes quadratic time on long runs.
void order_marks(std::vector<utf8proc_int32_t>& codes) {
  const auto is_mark = [](utf8proc_int32_t code) { return combining_class(code) != 0; };
  auto begin = std::find_if(codes.begin(), codes.end(), is_mark);
  while (begin != codes.end()) {
    const auto end = std::find_if_not(begin, codes.end(), is_mark);
    std::stable_sort(begin, end, [](utf8proc_int32_t a, utf8proc_int32_t b) {
      return combining_class(a) < combining_class(b);
    });
    begin = std::find_if(end, codes.end(), is_mark);
  }
}

}  // namespace

std::string unicode_normalize(std::string_view valid, UnicodeForm form) {
  if (is_plain(valid, form)) return std::string(valid);
  int options = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
  if (is_compatibility(form)) options |= UTF8PROC_COMPAT;
  std::vector<utf8proc_int32_t> codes;
  codes.reserve(valid.size());
  while (!valid.empty()) {
    const Utf8Step step = utf8_step(valid);
    decompose(step.code, static_cast<utf8proc_option_t>(options), codes);
    valid.remove_prefix(step.length);
  }
  order_marks(codes);
  if (is_composed(form)) {
    const auto n = utf8proc_normalize_utf32(
        codes.data(), static_cast<utf8proc_ssize_t>(codes.size()),
        static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    HR_CHECK(n >= 0);
    codes.resize(static_cast<size_t>(n));
  }
  std::string out;
  out.reserve(codes.size() * 2);
  for (const utf8proc_int32_t code : codes) append_utf8(out, static_cast<char32_t>(code));
  return out;
}

std::string replace_all(std::string_view text, const Replace& rule) {
  HR_CHECK(!rule.from.empty());
  std::string out;
  out.reserve(text.size());
  while (true) {
    const size_t at = text.find(rule.from);
    out += text.substr(0, at);
    if (at == std::string_view::npos) return out;
    out += rule.to;
    text.remove_prefix(at + rule.from.size());
  }
}

std::string Normalizer::apply(std::string_view valid) const {
  std::string text(valid);
  for (const Step& step : steps_) {
    if (const auto* form = std::get_if<UnicodeForm>(&step)) {
      text = unicode_normalize(text, *form);
    } else if (const auto* prepend = std::get_if<Prepend>(&step)) {
      if (!text.empty()) text.insert(0, prepend->prefix);
    } else {
      text = replace_all(text, std::get<Replace>(step));
    }
  }
  return text;
}

}  // namespace headrace::text
