#include "text/jinja/token_stream.h"

#include <algorithm>

#include <fmt/format.h>

#include "text/jinja/value.h"

namespace headrace::jinja {

const Token& TokenStream::peek(size_t ahead) const {
  return tokens_[std::min(position_ + ahead, tokens_.size() - 1)];
}

Token TokenStream::next() {
  const Token& token = peek();
  if (position_ + 1 < tokens_.size()) ++position_;
  return token;
}

bool TokenStream::take_operator(std::string_view text) {
  if (!at_operator(text)) return false;
  next();
  return true;
}

bool TokenStream::take_name(std::string_view text) {
  if (!at_name(text)) return false;
  next();
  return true;
}

void TokenStream::expect_operator(std::string_view text) {
  if (!take_operator(text)) refuse(fmt::format("expected '{}'", text));
}

void TokenStream::expect_name(std::string_view text) {
  if (!take_name(text)) refuse(fmt::format("expected '{}'", text));
}

Token TokenStream::expect(Token::Kind kind, std::string_view what) {
  if (!at(kind)) refuse(fmt::format("expected {}", what));
  return next();
}

void TokenStream::refuse(std::string_view what) const {
  const Token& token = peek();
  const std::string found = token.kind == Token::Kind::kEnd ? "the end" : "'" + token.text + "'";
  throw Failure(fmt::format("line {}: {}, found {}", token.line, what, found));
}

}  // namespace headrace::jinja
