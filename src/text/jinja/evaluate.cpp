// Interpreter: expressions.

#include <fmt/format.h>

#include "text/jinja/filters.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/methods.h"
#include "text/jinja/operators.h"

namespace headrace::jinja {
namespace {

using Kind = Expression::Kind;

void require_number(const Value& value, const char* sign) {
  if (value.is_number()) return;
  throw Failure(value.is_undefined()
                    ? fmt::format("'{}' is undefined", value.undefined_name())
                    : fmt::format("'{}' before '{}' is not possible", sign, value.type_name()));
}

}  // namespace

// Only small frames here: this is what recurses.
Value Interpreter::evaluate(const Expression& node, Scope& scope) {
  budget_.step();
  const Depth depth(depth_);
  line_ = node.line;
  Value value;
  switch (node.kind) {
    case Kind::kConstant:
      value = node.constant;
      break;
    case Kind::kName:
      value = evaluate_name(node, scope);
      break;
    case Kind::kList:
    case Kind::kTuple:
      value = make_list(evaluate_all(node, scope), node.kind == Kind::kTuple);
      break;
    case Kind::kDict:
      value = evaluate_dict(node, scope);
      break;
    case Kind::kAttribute:
      value = get_attribute(evaluate(*node.operands[0], scope), node.name, budget_);
      break;
    case Kind::kItem:
      value = evaluate_item(node, scope);
      break;
    case Kind::kSlice:
      value = evaluate_slice(node, scope);
      break;
    case Kind::kCall:
      value = evaluate_call(node, scope);
      break;
    case Kind::kFilter:
    case Kind::kTest:
      value = evaluate_filter(node, scope);
      break;
    case Kind::kNot:
    case Kind::kAnd:
    case Kind::kOr:
    case Kind::kConditional:
      value = evaluate_logic(node, scope);
      break;
    case Kind::kNegate:
    case Kind::kPlus:
    case Kind::kArithmetic:
      value = evaluate_arithmetic(node, scope);
      break;
    case Kind::kCompare:
      value = evaluate_compare(node, scope);
      break;
    case Kind::kConcatenate:
      value = evaluate_concatenate(node, scope);
      break;
  }
  return value;
}

Value Interpreter::evaluate_name(const Expression& node, const Scope& scope) {
  const Value* found = scope.find(node.name);
  if (found == nullptr) return Value(Undefined{node.name});
  if (found->is_string()) budget_.bytes(found->string().size());
  return *found;
}

std::vector<Value> Interpreter::evaluate_all(const Expression& node, Scope& scope) {
  std::vector<Value> values;
  for (const ExpressionPtr& operand : node.operands) values.push_back(evaluate(*operand, scope));
  return values;
}

Value Interpreter::evaluate_dict(const Expression& node, Scope& scope) {
  std::vector<Value> flat = evaluate_all(node, scope);
  budget_.bytes(flat.size() * flat.size());
  Variables items;
  for (size_t i = 0; i + 1 < flat.size(); i += 2) {
    if (!flat[i].is_string()) throw Failure("only strings can be keys of a dictionary");
    items.emplace_back(flat[i].string(), std::move(flat[i + 1]));
  }
  return make_dict(std::move(items));
}

Value Interpreter::evaluate_item(const Expression& node, Scope& scope) {
  const Value object = evaluate(*node.operands[0], scope);
  const Value key = evaluate(*node.operands[1], scope);
  Value item = get_item(object, key, budget_);
  if (!item.is_undefined() || !key.is_string()) return item;
  return get_attribute(object, key.string(), budget_);
}

Value Interpreter::evaluate_slice(const Expression& node, Scope& scope) {
  const Value object = evaluate(*node.operands[0], scope);
  const auto bound = [&](size_t i) -> std::optional<int64_t> {
    if (node.operands[i] == nullptr) return std::nullopt;
    const Value value = evaluate(*node.operands[i], scope);
    if (value.is_none()) return std::nullopt;
    if (!value.is_integer()) throw Failure("a slice's bounds must be integers");
    return value.integer();
  };
  return get_slice(object, {.start = bound(1), .stop = bound(2), .step = bound(3)}, budget_);
}

Arguments Interpreter::evaluate_arguments(const Expression& node, Scope& scope) {
  Arguments arguments;
  for (size_t i = 1; i < node.operands.size(); ++i) {
    arguments.positional.push_back(evaluate(*node.operands[i], scope));
  }
  for (const auto& [name, expression] : node.named) {
    arguments.named.emplace_back(name, evaluate(*expression, scope));
  }
  return arguments;
}

Value Interpreter::evaluate_call(const Expression& node, Scope& scope) {
  const Expression& callee = *node.operands[0];
  if (callee.kind == Kind::kAttribute) {
    const Value object = evaluate(*callee.operands[0], scope);
    const Arguments arguments = evaluate_arguments(node, scope);
    line_ = node.line;
    if (auto result = call_method(object, callee.name, arguments, budget_)) return *result;
    const Value function = get_attribute(object, callee.name, budget_);
    if (!function.is_function()) {
      throw Failure(fmt::format("'{}' has no method '{}'", object.type_name(), callee.name));
    }
    return function.function().call(arguments);
  }
  const Value function = evaluate(callee, scope);
  const Arguments arguments = evaluate_arguments(node, scope);
  line_ = node.line;
  if (function.is_undefined()) {
    throw Failure(fmt::format("'{}' is undefined", function.undefined_name()));
  }
  if (!function.is_function()) {
    throw Failure(fmt::format("'{}' cannot be called", function.type_name()));
  }
  return function.function().call(arguments);
}

Value Interpreter::evaluate_filter(const Expression& node, Scope& scope) {
  // A null operand is the text of a set block, which lies in the scope under an empty name.
  const Value input = node.operands[0] != nullptr ? node.operands[0]->kind == Kind::kFilter
                                                        ? evaluate_filter(*node.operands[0], scope)
                                                        : evaluate(*node.operands[0], scope)
                                                  : *scope.find("");
  const Arguments arguments = evaluate_arguments(node, scope);
  line_ = node.line;
  if (node.kind == Kind::kTest) {
    return Value(apply_test(node.name, input, arguments, budget_));
  }
  return apply_filter(node.name, input, arguments, budget_);
}

Value Interpreter::evaluate_arithmetic(const Expression& node, Scope& scope) {
  const Value left = evaluate(*node.operands[0], scope);
  line_ = node.line;
  if (node.kind == Kind::kArithmetic) {
    const Value right = evaluate(*node.operands[1], scope);
    line_ = node.line;
    return arithmetic(node.name, left, right, budget_);
  }
  require_number(left, node.kind == Kind::kNegate ? "-" : "+");
  if (left.is_float()) return Value(node.kind == Kind::kNegate ? -left.number() : left.number());
  return arithmetic(node.kind == Kind::kNegate ? "-" : "+", Value(int64_t{0}), left, budget_);
}

Value Interpreter::evaluate_compare(const Expression& node, Scope& scope) {
  Value left = evaluate(*node.operands[0], scope);
  for (size_t i = 0; i < node.comparisons.size(); ++i) {
    Value right = evaluate(*node.operands[i + 1], scope);
    line_ = node.line;
    if (!compare(node.comparisons[i], left, right, budget_)) return Value(false);
    left = std::move(right);
  }
  return Value(true);
}

Value Interpreter::evaluate_concatenate(const Expression& node, Scope& scope) {
  std::string text;
  for (const ExpressionPtr& operand : node.operands) {
    text += to_text(evaluate(*operand, scope), budget_);
  }
  return Value(std::move(text));
}

Value Interpreter::evaluate_logic(const Expression& node, Scope& scope) {
  if (node.kind == Kind::kConditional) {
    if (evaluate(*node.operands[1], scope).truthy()) return evaluate(*node.operands[0], scope);
    if (node.operands[2] == nullptr) return Value(Undefined{"the missing else"});
    return evaluate(*node.operands[2], scope);
  }
  Value left = evaluate(*node.operands[0], scope);
  if (node.kind == Kind::kNot) return Value(!left.truthy());
  const bool decided = left.truthy() == (node.kind == Kind::kOr);
  return decided ? left : evaluate(*node.operands[1], scope);
}

}  // namespace headrace::jinja
