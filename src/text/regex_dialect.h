#pragma once

#include <string>
#include <string_view>

namespace headrace::text {

/// Rewrites a pattern from the dialect of Hugging Face's tokenizers (Oniguruma's Ruby syntax) into
/// PCRE2's (with PCRE2_UTF, PCRE2_UCP and PCRE2_MULTILINE). Error{kUnsupported} for what has no
/// equivalent there.
std::string translate_pattern(std::string_view pattern);

}  // namespace headrace::text
