#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/lexer.h"

namespace headrace::jinja {

/// Tokens with a place in them. Confined to one thread.
class TokenStream {
 public:
  explicit TokenStream(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  const Token& peek(size_t ahead = 0) const;
  Token next();

  bool at(Token::Kind kind) const { return peek().kind == kind; }
  bool at_operator(std::string_view text) const { return is(peek(), Token::Kind::kOperator, text); }
  bool at_name(std::string_view text) const { return is(peek(), Token::Kind::kName, text); }
  bool take_operator(std::string_view text);
  bool take_name(std::string_view text);
  void expect_operator(std::string_view text);
  void expect_name(std::string_view text);
  Token expect(Token::Kind kind, std::string_view what);

  /// Throws Failure with the current line.
  [[noreturn]] void refuse(std::string_view what) const;

 private:
  static bool is(const Token& token, Token::Kind kind, std::string_view text) {
    return token.kind == kind && token.text == text;
  }

  std::vector<Token> tokens_;
  size_t position_ = 0;
};

}  // namespace headrace::jinja
