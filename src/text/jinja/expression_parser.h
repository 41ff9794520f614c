#pragma once

#include "text/jinja/ast.h"
#include "text/jinja/token_stream.h"

namespace headrace::jinja {

/// Parses expressions by recursive descent, with jinja2's precedence: conditional, or, and, not,
/// comparisons, + and -, ~, * / // %, **, unary, postfix and filters. Confined to one thread.
class ExpressionParser {
 public:
  explicit ExpressionParser(TokenStream& tokens) : tokens_(tokens) {}

  ExpressionPtr parse();
  /// One expression, or a tuple of several separated by commas without parentheses.
  ExpressionPtr parse_tuple();
  /// Without the conditional `a if b else c`: what a for loop iterates over.
  ExpressionPtr parse_without_condition() { return parse_or(); }
  /// The filters `| a | b(c)` applied to `node`, if there are any.
  ExpressionPtr parse_filters(ExpressionPtr node);

 private:
  class Nesting;

  ExpressionPtr make(Expression::Kind kind) const;
  ExpressionPtr adopt(ExpressionPtr parent, ExpressionPtr child) const;
  ExpressionPtr name_constant();
  ExpressionPtr parse_or();
  ExpressionPtr parse_and();
  ExpressionPtr parse_not();
  ExpressionPtr parse_compare();
  ExpressionPtr parse_sum();
  ExpressionPtr parse_concatenation();
  ExpressionPtr parse_product();
  ExpressionPtr parse_power();
  ExpressionPtr parse_unary(bool with_filters);
  ExpressionPtr parse_primary();
  ExpressionPtr parse_number();
  ExpressionPtr parse_list();
  ExpressionPtr parse_dict();
  ExpressionPtr parse_parentheses();
  ExpressionPtr parse_postfix(ExpressionPtr node);
  ExpressionPtr parse_attribute(ExpressionPtr node);
  ExpressionPtr parse_subscript(ExpressionPtr node);
  ExpressionPtr parse_call(ExpressionPtr node);
  ExpressionPtr parse_test(ExpressionPtr node);
  void parse_arguments(Expression& call);
  bool comparison_ahead() const;
  std::string take_comparison();
  ExpressionPtr parse_arithmetic(ExpressionPtr left, ExpressionPtr right, std::string op);

  TokenStream& tokens_;
  int nesting_ = 0;
};

}  // namespace headrace::jinja
