#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/template.h"
#include "text/jinja/value.h"

namespace headrace::jinja {

/// Variables of a template, loop body or macro, over those around it.
struct Scope {
  const Scope* around;
  Variables variables;

  const Value* find(std::string_view name) const;
  void set(const std::string& name, Value value);
};

/// Runs a parsed template once. Confined to one thread; borrows the template.
class Interpreter {
 public:
  Interpreter(const Variables& variables, const RenderOptions& options);
  ~Interpreter();
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  std::string run(const Block& block);
  /// The line of what was evaluated last.
  int line() const { return line_; }

 private:
  enum class Flow { kNext, kBreak, kContinue };

  /// Counts how deep the interpreter has called itself.
  class Depth {
   public:
    explicit Depth(int& depth) : depth_(depth) {
      constexpr int kMax = 600;
      if (depth_ >= kMax) throw Failure("the template recurses too deeply");
      ++depth_;
    }
    ~Depth() { --depth_; }
    Depth(const Depth&) = delete;
    Depth& operator=(const Depth&) = delete;

   private:
    int& depth_;
  };

  Flow execute(const Block& block, Scope& scope, std::string& out);
  Flow execute(const Statement& statement, Scope& scope, std::string& out);
  Flow execute_if(const Statement& statement, Scope& scope, std::string& out);
  Flow execute_for(const Statement& statement, Scope& scope, std::string& out);
  void execute_set(const Statement& statement, Scope& scope);
  void execute_set_block(const Statement& statement, Scope& scope);
  void define_macro(const Statement& statement, Scope& scope);
  Value call_macro(const Statement& macro, const Arguments& arguments);
  std::vector<Value> loop_items(const Statement& statement, Scope& scope);
  void assign(const std::vector<Target>& targets, const Value& value, Scope& scope);
  void assign(const Target& target, Value value, Scope& scope);

  Value evaluate(const Expression& node, Scope& scope);
  Value evaluate_name(const Expression& node, const Scope& scope);
  Value evaluate_dict(const Expression& node, Scope& scope);
  Value evaluate_item(const Expression& node, Scope& scope);
  Value evaluate_slice(const Expression& node, Scope& scope);
  Value evaluate_call(const Expression& node, Scope& scope);
  Value evaluate_filter(const Expression& node, Scope& scope);
  Value evaluate_arithmetic(const Expression& node, Scope& scope);
  Value evaluate_compare(const Expression& node, Scope& scope);
  Value evaluate_concatenate(const Expression& node, Scope& scope);
  Value evaluate_logic(const Expression& node, Scope& scope);
  std::vector<Value> evaluate_all(const Expression& node, Scope& scope);
  Arguments evaluate_arguments(const Expression& node, Scope& scope);

  void add_globals(const RenderOptions& options);
  Value make_namespace(const Arguments& arguments);

  Budget budget_;
  Scope globals_;
  Scope root_;
  int line_ = 1;
  int depth_ = 0;
  std::vector<std::shared_ptr<Dict>> namespaces_;  // emptied at the end: they may form cycles
};

}  // namespace headrace::jinja
