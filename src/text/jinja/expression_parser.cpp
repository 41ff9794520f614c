#include "text/jinja/expression_parser.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>

#include <fmt/format.h>

namespace headrace::jinja {
namespace {

using Kind = Expression::Kind;

constexpr int kMaxNesting = 48;  // parentheses in parentheses
constexpr int kMaxDepth = 160;   // of an expression's tree; chains such as a + b + c grow it too

bool ends_expression(const Token& token) {
  return token.kind == Token::Kind::kName &&
         (token.text == "else" || token.text == "or" || token.text == "and" || token.text == "if" ||
          token.text == "is" || token.text == "not" || token.text == "in");
}

}  // namespace

/// Counts how deep the parser has called itself.
class ExpressionParser::Nesting {
 public:
  explicit Nesting(ExpressionParser& parser) : parser_(parser) {
    if (++parser_.nesting_ > kMaxNesting) {
      --parser_.nesting_;
      parser_.tokens_.refuse("the expression is nested too deeply");
    }
  }
  ~Nesting() { --parser_.nesting_; }
  Nesting(const Nesting&) = delete;
  Nesting& operator=(const Nesting&) = delete;

 private:
  ExpressionParser& parser_;
};

ExpressionPtr ExpressionParser::make(Kind kind) const {
  auto node = std::make_unique<Expression>();
  node->kind = kind;
  node->line = tokens_.peek().line;
  return node;
}

ExpressionPtr ExpressionParser::adopt(ExpressionPtr parent, ExpressionPtr child) const {
  if (child != nullptr) {
    parent->depth = std::max(parent->depth, child->depth + 1);
    if (parent->depth > kMaxDepth) tokens_.refuse("the expression is too long");
  }
  parent->operands.push_back(std::move(child));
  return parent;
}

ExpressionPtr ExpressionParser::parse() {
  const Nesting nesting(*this);
  ExpressionPtr node = parse_or();
  while (tokens_.take_name("if")) {
    ExpressionPtr conditional = adopt(make(Kind::kConditional), std::move(node));
    conditional = adopt(std::move(conditional), parse_or());
    ExpressionPtr otherwise = tokens_.take_name("else") ? parse() : nullptr;
    node = adopt(std::move(conditional), std::move(otherwise));
  }
  return node;
}

ExpressionPtr ExpressionParser::parse_tuple() {
  ExpressionPtr node = parse();
  if (!tokens_.at_operator(",")) return node;
  ExpressionPtr tuple = adopt(make(Kind::kTuple), std::move(node));
  while (tokens_.take_operator(",")) {
    const bool ends = tokens_.at(Token::Kind::kBlockEnd) || tokens_.at(Token::Kind::kVariableEnd);
    if (ends || tokens_.at_operator(")")) break;
    tuple = adopt(std::move(tuple), parse());
  }
  return tuple;
}

ExpressionPtr ExpressionParser::parse_or() {
  ExpressionPtr node = parse_and();
  while (tokens_.take_name("or")) {
    node = adopt(adopt(make(Kind::kOr), std::move(node)), parse_and());
  }
  return node;
}

ExpressionPtr ExpressionParser::parse_and() {
  ExpressionPtr node = parse_not();
  while (tokens_.take_name("and")) {
    node = adopt(adopt(make(Kind::kAnd), std::move(node)), parse_not());
  }
  return node;
}

ExpressionPtr ExpressionParser::parse_not() {
  if (!tokens_.at_name("not")) return parse_compare();
  const Nesting nesting(*this);
  ExpressionPtr node = make(Kind::kNot);
  tokens_.next();
  return adopt(std::move(node), parse_not());
}

bool ExpressionParser::comparison_ahead() const {
  for (const char* op : {"==", "!=", "<", "<=", ">", ">="}) {
    if (tokens_.at_operator(op)) return true;
  }
  if (tokens_.at_name("in")) return true;
  const Token& after = tokens_.peek(1);
  return tokens_.at_name("not") && after.kind == Token::Kind::kName && after.text == "in";
}

std::string ExpressionParser::take_comparison() {
  std::string op = tokens_.next().text;
  if (op != "not") return op;
  tokens_.next();
  return "not in";
}

ExpressionPtr ExpressionParser::parse_compare() {
  ExpressionPtr node = parse_sum();
  if (!comparison_ahead()) return node;
  ExpressionPtr compare = adopt(make(Kind::kCompare), std::move(node));
  while (comparison_ahead()) {
    compare->comparisons.push_back(take_comparison());
    compare = adopt(std::move(compare), parse_sum());
  }
  return compare;
}

ExpressionPtr ExpressionParser::parse_arithmetic(ExpressionPtr left, ExpressionPtr right,
                                                 std::string op) {
  ExpressionPtr node = make(Kind::kArithmetic);
  node->name = std::move(op);
  return adopt(adopt(std::move(node), std::move(left)), std::move(right));
}

ExpressionPtr ExpressionParser::parse_sum() {
  ExpressionPtr node = parse_concatenation();
  while (tokens_.at_operator("+") || tokens_.at_operator("-")) {
    const std::string op = tokens_.next().text;
    node = parse_arithmetic(std::move(node), parse_concatenation(), op);
  }
  return node;
}

ExpressionPtr ExpressionParser::parse_concatenation() {
  ExpressionPtr node = parse_product();
  if (!tokens_.at_operator("~")) return node;
  ExpressionPtr joined = adopt(make(Kind::kConcatenate), std::move(node));
  while (tokens_.take_operator("~")) joined = adopt(std::move(joined), parse_product());
  return joined;
}

ExpressionPtr ExpressionParser::parse_product() {
  ExpressionPtr node = parse_power();
  while (tokens_.at_operator("*") || tokens_.at_operator("/") || tokens_.at_operator("//") ||
         tokens_.at_operator("%")) {
    const std::string op = tokens_.next().text;
    node = parse_arithmetic(std::move(node), parse_power(), op);
  }
  return node;
}

ExpressionPtr ExpressionParser::parse_power() {
  ExpressionPtr node = parse_unary(true);
  while (tokens_.take_operator("**")) {
    node = parse_arithmetic(std::move(node), parse_unary(true), "**");
  }
  return node;
}

ExpressionPtr ExpressionParser::parse_unary(bool with_filters) {
  ExpressionPtr node;
  if (tokens_.at_operator("-") || tokens_.at_operator("+")) {
    const Nesting nesting(*this);
    node = make(tokens_.at_operator("-") ? Kind::kNegate : Kind::kPlus);
    tokens_.next();
    node = adopt(std::move(node), parse_unary(false));
  } else {
    node = parse_primary();
  }
  node = parse_postfix(std::move(node));
  return with_filters ? parse_filters(std::move(node)) : std::move(node);
}

ExpressionPtr ExpressionParser::name_constant() {
  const std::string name = tokens_.peek().text;
  ExpressionPtr node = make(Kind::kConstant);
  if (name == "true" || name == "True") {
    node->constant = Value(true);
  } else if (name == "false" || name == "False") {
    node->constant = Value(false);
  } else if (name == "none" || name == "None") {
    node->constant = Value(None{});
  } else {
    node->kind = Kind::kName;
    node->name = name;
  }
  tokens_.next();
  return node;
}

ExpressionPtr ExpressionParser::parse_primary() {
  const Token& token = tokens_.peek();
  switch (token.kind) {
    case Token::Kind::kName:
      if (ends_expression(token)) tokens_.refuse("expected a value");
      return name_constant();
    case Token::Kind::kString: {
      ExpressionPtr node = make(Kind::kConstant);
      std::string text;
      while (tokens_.at(Token::Kind::kString)) text += tokens_.next().text;
      node->constant = Value(std::move(text));
      return node;
    }
    case Token::Kind::kInteger:
    case Token::Kind::kFloat:
      return parse_number();
    default:
      if (tokens_.at_operator("(")) return parse_parentheses();
      if (tokens_.at_operator("[")) return parse_list();
      if (tokens_.at_operator("{")) return parse_dict();
      tokens_.refuse("expected a value");
  }
}

ExpressionPtr ExpressionParser::parse_number() {
  ExpressionPtr node = make(Kind::kConstant);
  const Token& token = tokens_.peek();
  if (token.kind == Token::Kind::kFloat) {
    node->constant = Value(std::strtod(token.text.c_str(), nullptr));
  } else {
    int64_t number = 0;
    const char* end = token.text.data() + token.text.size();
    if (std::from_chars(token.text.data(), end, number).ec != std::errc()) {
      tokens_.refuse("a number beyond 64 bits");
    }
    node->constant = Value(number);
  }
  tokens_.next();
  return node;
}

ExpressionPtr ExpressionParser::parse_parentheses() {
  const Nesting nesting(*this);
  tokens_.expect_operator("(");
  if (tokens_.take_operator(")")) return make(Kind::kTuple);
  ExpressionPtr node = parse_tuple();
  tokens_.expect_operator(")");
  return node;
}

ExpressionPtr ExpressionParser::parse_list() {
  const Nesting nesting(*this);
  ExpressionPtr node = make(Kind::kList);
  tokens_.expect_operator("[");
  while (!tokens_.take_operator("]")) {
    node = adopt(std::move(node), parse());
    if (!tokens_.at_operator("]")) tokens_.expect_operator(",");
  }
  return node;
}

ExpressionPtr ExpressionParser::parse_dict() {
  const Nesting nesting(*this);
  ExpressionPtr node = make(Kind::kDict);
  tokens_.expect_operator("{");
  while (!tokens_.take_operator("}")) {
    node = adopt(std::move(node), parse());
    tokens_.expect_operator(":");
    node = adopt(std::move(node), parse());
    if (!tokens_.at_operator("}")) tokens_.expect_operator(",");
  }
  return node;
}

ExpressionPtr ExpressionParser::parse_postfix(ExpressionPtr node) {
  while (true) {
    if (tokens_.at_operator(".")) {
      node = parse_attribute(std::move(node));
    } else if (tokens_.at_operator("[")) {
      node = parse_subscript(std::move(node));
    } else if (tokens_.at_operator("(")) {
      node = parse_call(std::move(node));
    } else {
      return node;
    }
  }
}

ExpressionPtr ExpressionParser::parse_attribute(ExpressionPtr node) {
  tokens_.expect_operator(".");
  if (tokens_.at(Token::Kind::kInteger)) {
    ExpressionPtr item = adopt(make(Kind::kItem), std::move(node));
    return adopt(std::move(item), parse_number());
  }
  ExpressionPtr attribute = adopt(make(Kind::kAttribute), std::move(node));
  attribute->name = tokens_.expect(Token::Kind::kName, "a name").text;
  return attribute;
}

ExpressionPtr ExpressionParser::parse_subscript(ExpressionPtr node) {
  const Nesting nesting(*this);
  ExpressionPtr item = adopt(make(Kind::kItem), std::move(node));
  tokens_.expect_operator("[");
  ExpressionPtr first = tokens_.at_operator(":") ? nullptr : parse();
  item = adopt(std::move(item), std::move(first));
  if (tokens_.at_operator(":")) {
    item->kind = Kind::kSlice;
    while (item->operands.size() < 4) {
      const bool more = tokens_.take_operator(":");
      const bool given = more && !tokens_.at_operator(":") && !tokens_.at_operator("]");
      item = adopt(std::move(item), given ? parse() : nullptr);
    }
  }
  tokens_.expect_operator("]");
  return item;
}

void ExpressionParser::parse_arguments(Expression& call) {
  const Nesting nesting(*this);
  tokens_.expect_operator("(");
  while (!tokens_.take_operator(")")) {
    const Token& after = tokens_.peek(1);
    const bool named =
        tokens_.at(Token::Kind::kName) && after.kind == Token::Kind::kOperator && after.text == "=";
    if (named) {
      std::string name = tokens_.next().text;
      tokens_.next();
      call.named.emplace_back(std::move(name), parse());
      call.depth = std::max(call.depth, call.named.back().second->depth + 1);
    } else {
      if (!call.named.empty()) tokens_.refuse("expected a named argument");
      call.operands.push_back(parse());
      call.depth = std::max(call.depth, call.operands.back()->depth + 1);
    }
    if (!tokens_.at_operator(")")) tokens_.expect_operator(",");
  }
  if (call.depth > kMaxDepth) tokens_.refuse("the expression is too long");
}

ExpressionPtr ExpressionParser::parse_call(ExpressionPtr node) {
  ExpressionPtr call = adopt(make(Kind::kCall), std::move(node));
  parse_arguments(*call);
  return call;
}

ExpressionPtr ExpressionParser::parse_filters(ExpressionPtr node) {
  while (true) {
    if (tokens_.take_operator("|")) {
      ExpressionPtr filter = adopt(make(Kind::kFilter), std::move(node));
      filter->name = tokens_.expect(Token::Kind::kName, "a filter's name").text;
      if (tokens_.at_operator("(")) parse_arguments(*filter);
      node = std::move(filter);
    } else if (node != nullptr && tokens_.at_name("is")) {
      node = parse_test(std::move(node));
    } else if (node != nullptr && tokens_.at_operator("(")) {
      node = parse_call(std::move(node));
    } else {
      return node;
    }
  }
}

ExpressionPtr ExpressionParser::parse_test(ExpressionPtr node) {
  tokens_.expect_name("is");
  ExpressionPtr negation = tokens_.at_name("not") ? make(Kind::kNot) : nullptr;
  if (negation != nullptr) tokens_.next();
  ExpressionPtr test = adopt(make(Kind::kTest), std::move(node));
  test->name = tokens_.expect(Token::Kind::kName, "a test's name").text;
  const Token& token = tokens_.peek();
  if (tokens_.at_operator("(")) {
    parse_arguments(*test);
  } else if (token.kind == Token::Kind::kString || token.kind == Token::Kind::kInteger ||
             token.kind == Token::Kind::kFloat || tokens_.at_operator("[") ||
             tokens_.at_operator("{") ||
             (token.kind == Token::Kind::kName && !ends_expression(token))) {
    test = adopt(std::move(test), parse_postfix(parse_primary()));
  }
  return negation == nullptr ? std::move(test) : adopt(std::move(negation), std::move(test));
}

}  // namespace headrace::jinja
