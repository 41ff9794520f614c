#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja/value.h"

namespace headrace::jinja {

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

/// A node of an expression. Which members mean something depends on `kind`, as noted there.
struct Expression {
  enum class Kind {
    kConstant,     // constant
    kName,         // name
    kList,         // operands
    kTuple,        // operands
    kDict,         // operands: key, value, key, value, ...
    kAttribute,    // operands[0] . name
    kItem,         // operands[0] [ operands[1] ]
    kSlice,        // operands[0] [ [1] : [2] : [3] ], null where left out
    kCall,         // operands[0] ( operands[1...], named )
    kFilter,       // operands[0] | name ( operands[1...], named )
    kTest,         // operands[0] is name ( operands[1...], named )
    kNot,          // not operands[0]
    kAnd,          // operands[0] and operands[1]
    kOr,           // operands[0] or operands[1]
    kNegate,       // - operands[0]
    kPlus,         // + operands[0]
    kArithmetic,   // operands[0] name operands[1], name one of + - * / // % **
    kCompare,      // operands[0] comparisons[0] operands[1] comparisons[1] operands[2] ...
    kConcatenate,  // operands joined by ~
    kConditional,  // operands[0] if operands[1] else operands[2] (null: undefined)
  };

  Kind kind;
  int line = 0;
  int depth = 1;  // of the tree under this node
  Value constant;
  std::string name;
  std::vector<ExpressionPtr> operands;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
  std::vector<std::string> comparisons;
};

struct Statement;
using StatementPtr = std::unique_ptr<Statement>;
using Block = std::vector<StatementPtr>;

/// What an assignment or a for loop sets: a variable, or `name.attribute` of a namespace.
struct Target {
  std::string name;
  std::string attribute;  // empty: the variable itself
};

struct Parameter {
  std::string name;
  ExpressionPtr fallback;  // null: undefined
};

struct Statement {
  enum class Kind {
    kText,      // text
    kOutput,    // expression
    kIf,        // branches, otherwise
    kFor,       // targets in expression (if condition): body, otherwise
    kSet,       // targets = expression
    kSetBlock,  // targets[0] = body's output, through the filters in expression (may be null)
    kMacro,     // text is its name; parameters, body
    kBreak,
    kContinue,
  };

  struct Branch {
    ExpressionPtr condition;
    Block body;
  };

  Kind kind;
  int line = 0;
  std::string text;
  ExpressionPtr expression;
  ExpressionPtr condition;
  std::vector<Target> targets;
  std::vector<Branch> branches;
  std::vector<Parameter> parameters;
  Block body;
  Block otherwise;
};

}  // namespace headrace::jinja
