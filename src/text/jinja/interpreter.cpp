#include "text/jinja/interpreter.h"

#include <algorithm>

#include <fmt/format.h>

#include "text/jinja/filters.h"

namespace headrace::jinja {
namespace {

using Kind = Statement::Kind;

uint64_t input_bytes(const Value& value) {
  if (value.is_string()) return value.string().size();
  uint64_t total = 0;
  if (value.is_list()) {
    for (const Value& item : value.list()) total += input_bytes(item);
  } else if (value.is_dict()) {
    for (const auto& item : value.dict().items) total += input_bytes(item.second);
  }
  return total;
}

uint64_t byte_limit(const Variables& variables, const RenderOptions& options) {
  uint64_t inputs = 0;
  for (const auto& variable : variables) inputs += input_bytes(variable.second);
  return options.max_bytes + inputs * options.max_bytes_per_input;
}

/// What a loop's body sees as `loop`. Its depth counts recursive loops only, which are not
/// supported.
Value loop_value(const std::vector<Value>& items, size_t index) {
  const auto number = [](size_t n) { return Value(static_cast<int64_t>(n)); };
  const size_t count = items.size();
  auto loop = std::make_shared<Dict>();
  loop->is_namespace = true;  // attributes only
  loop->items = {{"index", number(index + 1)},
                 {"index0", number(index)},
                 {"revindex", number(count - index)},
                 {"revindex0", number(count - index - 1)},
                 {"first", Value(index == 0)},
                 {"last", Value(index + 1 == count)},
                 {"length", number(count)},
                 {"depth", number(1)},
                 {"depth0", number(0)}};
  if (index > 0) loop->items.emplace_back("previtem", items[index - 1]);
  if (index + 1 < count) loop->items.emplace_back("nextitem", items[index + 1]);
  loop->items.emplace_back("cycle", make_function("cycle", [index](const Arguments& arguments) {
                             if (arguments.positional.empty()) throw Failure("cycle: no items");
                             return arguments.positional[index % arguments.positional.size()];
                           }));
  return Value(std::move(loop));
}

}  // namespace

const Value* Scope::find(std::string_view name) const {
  for (const Scope* scope = this; scope != nullptr; scope = scope->around) {
    for (const auto& variable : scope->variables) {
      if (variable.first == name) return &variable.second;
    }
  }
  return nullptr;
}

void Scope::set(const std::string& name, Value value) {
  for (auto& variable : variables) {
    if (variable.first == name) {
      variable.second = std::move(value);
      return;
    }
  }
  variables.emplace_back(name, std::move(value));
}

Interpreter::Interpreter(const Variables& variables, const RenderOptions& options)
    : budget_(options.max_steps, byte_limit(variables, options)),
      globals_{.around = nullptr, .variables = {}},
      root_{.around = &globals_, .variables = variables} {
  add_globals(options);
}

Interpreter::~Interpreter() {
  for (const auto& space : namespaces_) space->items.clear();
}

std::string Interpreter::run(const Block& block) {
  std::string out;
  execute(block, root_, out);
  return out;
}

Interpreter::Flow Interpreter::execute(const Block& block, Scope& scope, std::string& out) {
  const Depth depth(depth_);
  for (const StatementPtr& statement : block) {
    const Flow flow = execute(*statement, scope, out);
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::execute(const Statement& statement, Scope& scope, std::string& out) {
  budget_.step();
  line_ = statement.line;
  switch (statement.kind) {
    case Kind::kText:
      budget_.bytes(statement.text.size());
      out += statement.text;
      return Flow::kNext;
    case Kind::kOutput:
      out += to_text(evaluate(*statement.expression, scope), budget_);
      return Flow::kNext;
    case Kind::kIf:
      return execute_if(statement, scope, out);
    case Kind::kFor:
      return execute_for(statement, scope, out);
    case Kind::kSet:
      execute_set(statement, scope);
      return Flow::kNext;
    case Kind::kSetBlock:
      execute_set_block(statement, scope);
      return Flow::kNext;
    case Kind::kMacro:
      define_macro(statement, scope);
      return Flow::kNext;
    case Kind::kBreak:
      return Flow::kBreak;
    case Kind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::execute_if(const Statement& statement, Scope& scope,
                                          std::string& out) {
  for (const Statement::Branch& branch : statement.branches) {
    if (evaluate(*branch.condition, scope).truthy()) return execute(branch.body, scope, out);
  }
  return execute(statement.otherwise, scope, out);
}

std::vector<Value> Interpreter::loop_items(const Statement& statement, Scope& scope) {
  std::vector<Value> items = iterate(evaluate(*statement.expression, scope), budget_);
  if (statement.condition == nullptr) return items;
  std::vector<Value> chosen;
  for (const Value& item : items) {
    Scope inner{.around = &scope, .variables = {}};
    assign(statement.targets, item, inner);
    if (evaluate(*statement.condition, inner).truthy()) chosen.push_back(item);
  }
  return chosen;
}

Interpreter::Flow Interpreter::execute_for(const Statement& statement, Scope& scope,
                                           std::string& out) {
  const std::vector<Value> items = loop_items(statement, scope);
  if (items.empty()) return execute(statement.otherwise, scope, out);
  for (size_t i = 0; i < items.size(); ++i) {
    budget_.step();
    Scope inner{.around = &scope, .variables = {}};
    inner.set("loop", loop_value(items, i));
    assign(statement.targets, items[i], inner);
    if (execute(statement.body, inner, out) == Flow::kBreak) break;
  }
  return Flow::kNext;
}

void Interpreter::execute_set(const Statement& statement, Scope& scope) {
  assign(statement.targets, evaluate(*statement.expression, scope), scope);
}

void Interpreter::execute_set_block(const Statement& statement, Scope& scope) {
  std::string text;
  Scope inner{.around = &scope, .variables = {}};
  execute(statement.body, inner, text);
  if (statement.expression == nullptr) {
    assign(statement.targets[0], Value(std::move(text)), scope);
    return;
  }
  inner.variables = {{"", Value(std::move(text))}};  // a name that no template can write
  assign(statement.targets[0], evaluate_filter(*statement.expression, inner), scope);
}

void Interpreter::assign(const std::vector<Target>& targets, const Value& value, Scope& scope) {
  if (targets.size() == 1) {
    assign(targets[0], value, scope);
    return;
  }
  std::vector<Value> parts = iterate(value, budget_);
  if (parts.size() != targets.size()) {
    throw Failure(
        fmt::format("{} values cannot be unpacked into {} names", parts.size(), targets.size()));
  }
  for (size_t i = 0; i < parts.size(); ++i) assign(targets[i], std::move(parts[i]), scope);
}

void Interpreter::assign(const Target& target, Value value, Scope& scope) {
  budget_.bytes(value.is_string() ? value.string().size() : 0);
  if (target.attribute.empty()) {
    scope.set(target.name, std::move(value));
    return;
  }
  const Value* space = scope.find(target.name);
  if (space == nullptr || !space->is_namespace()) {
    throw Failure(fmt::format("'{}' is not a namespace", target.name));
  }
  space->dict().set(target.attribute, std::move(value));
}

void Interpreter::define_macro(const Statement& statement, Scope& scope) {
  scope.set(statement.text,
            make_function(statement.text, [this, &statement](const Arguments& arguments) {
              return call_macro(statement, arguments);
            }));
}

Value Interpreter::call_macro(const Statement& macro, const Arguments& arguments) {
  const int line = line_;
  Scope scope{.around = &root_, .variables = {}};
  if (arguments.positional.size() > macro.parameters.size()) {
    throw Failure(
        fmt::format("the macro '{}' takes {} arguments", macro.text, macro.parameters.size()));
  }
  for (const auto& named : arguments.named) {
    const bool known = std::any_of(macro.parameters.begin(), macro.parameters.end(),
                                   [&](const Parameter& p) { return p.name == named.first; });
    if (!known) {
      throw Failure(fmt::format("the macro '{}' has no parameter '{}'", macro.text, named.first));
    }
  }
  for (size_t i = 0; i < macro.parameters.size(); ++i) {
    const Parameter& parameter = macro.parameters[i];
    const Value* given = arguments.find(i, parameter.name);
    if (given != nullptr) {
      scope.set(parameter.name, *given);
    } else if (parameter.fallback != nullptr) {
      scope.set(parameter.name, evaluate(*parameter.fallback, scope));
    } else {
      scope.set(parameter.name, Value(Undefined{parameter.name}));
    }
  }
  std::string text;
  execute(macro.body, scope, text);
  line_ = line;
  return Value(std::move(text));
}

}  // namespace headrace::jinja
