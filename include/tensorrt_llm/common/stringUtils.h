#pragma once

#include <cstddef>
#include <cstdint>
#include <sstream>
#include <string>
#include <type_traits>
#include <vector>

namespace tensorrt_llm::common {
namespace detail {

/// One value for a printf directive, which remembers its own type: a directive that asks for
/// another (%d for a size_t) still prints the value that was passed. Borrows strings.
class FormatArg {
 public:
  enum class Kind { kSigned, kUnsigned, kFloat, kText, kPointer };

  template <typename T>
  explicit FormatArg(T const& value) {
    if constexpr (std::is_same_v<T, std::string>) {
      setText(value.c_str());
    } else if constexpr (std::is_convertible_v<T const&, char const*>) {
      setText(value);
    } else if constexpr (std::is_enum_v<T>) {
      setInteger(static_cast<std::underlying_type_t<T>>(value));
    } else if constexpr (std::is_integral_v<T>) {
      setInteger(value);
    } else if constexpr (std::is_floating_point_v<T>) {
      kind_ = Kind::kFloat;
      float_ = static_cast<double>(value);
    } else {
      static_assert(std::is_pointer_v<T>, "printf knows numbers, strings and pointers");
      kind_ = Kind::kPointer;
      pointer_ = value;
    }
  }

  Kind kind() const { return kind_; }
  std::size_t sizeBytes() const { return sizeBytes_; }
  std::int64_t asSigned() const { return signed_; }
  std::uint64_t asUnsigned() const { return static_cast<std::uint64_t>(signed_); }
  double asFloat() const { return float_; }
  char const* asText() const { return text_; }
  void const* asPointer() const { return pointer_; }

 private:
  template <typename T>
  void setInteger(T value) {
    kind_ = std::is_signed_v<T> ? Kind::kSigned : Kind::kUnsigned;
    sizeBytes_ = sizeof(T);
    signed_ = static_cast<std::int64_t>(value);
  }
  void setText(char const* value) {
    kind_ = Kind::kText;
    text_ = value == nullptr ? "(null)" : value;
  }

  Kind kind_ = Kind::kSigned;
  std::size_t sizeBytes_ = 0;
  std::int64_t signed_ = 0;
  double float_ = 0;
  char const* text_ = "";
  void const* pointer_ = nullptr;
};

/// `format` with its printf directives replaced. A directive without a value stays as it is.
std::string formatArgs(char const* format, std::vector<FormatArg> const& args);

}  // namespace detail

/// printf into a string, with any types of values. A std::string alone is no format.
inline std::string fmtstr(std::string const& text) { return text; }
template <typename... Args>
std::string fmtstr(char const* format, Args const&... args) {
  return detail::formatArgs(format, std::vector<detail::FormatArg>{detail::FormatArg(args)...});
}

/// "(1, 2, 3)".
template <typename T>
std::string arr2str(T const* values, std::size_t size, char const* delimiter = ", ") {
  std::ostringstream out;
  out << '(';
  for (std::size_t i = 0; i < size; ++i) out << (i == 0 ? "" : delimiter) << values[i];
  out << ')';
  return out.str();
}
template <typename T>
std::string vec2str(std::vector<T> const& values, char const* delimiter = ", ") {
  return arr2str(values.data(), values.size(), delimiter);
}

}  // namespace tensorrt_llm::common
