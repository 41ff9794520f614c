// The tests of `value is name`.

#include <algorithm>
#include <functional>
#include <string_view>

#include <fmt/format.h>

#include "text/jinja/filters.h"
#include "text/jinja/operators.h"
#include "text/jinja/strings.h"

namespace headrace::jinja {
namespace {

struct Test {
  std::string_view name;
  bool (*holds)(const Value&);
};

bool is_even(const Value& value) {
  if (!value.is_integer() && !value.is_bool()) {
    throw Failure(fmt::format("a {} is neither odd nor even", value.type_name()));
  }
  return value.integer() % 2 == 0;
}

constexpr Test kTests[] = {
    {"defined", [](const Value& v) { return !v.is_undefined(); }},
    {"undefined", [](const Value& v) { return v.is_undefined(); }},
    {"none", [](const Value& v) { return v.is_none(); }},
    {"string", [](const Value& v) { return v.is_string(); }},
    {"mapping", [](const Value& v) { return v.is_dict(); }},
    {"boolean", [](const Value& v) { return v.is_bool(); }},
    {"true", [](const Value& v) { return v.is_bool() && v.truthy(); }},
    {"false", [](const Value& v) { return v.is_bool() && !v.truthy(); }},
    {"integer", [](const Value& v) { return v.is_integer(); }},
    {"float", [](const Value& v) { return v.is_float(); }},
    {"number", [](const Value& v) { return v.is_number(); }},
    {"callable", [](const Value& v) { return v.is_function(); }},
    {"odd", [](const Value& v) { return !is_even(v); }},
    {"even", is_even},
    {"iterable",
     [](const Value& v) {
       return v.is_string() || v.is_list() || v.is_dict() || v.is_undefined();
     }},
    {"sequence",
     [](const Value& v) {
       return v.is_string() || v.is_list() || v.is_dict() || v.is_undefined();
     }},
    {"lower",
     [](const Value& v) {
       return v.is_string() && to_lower(v.string()) == v.string() &&
              to_upper(v.string()) != v.string();
     }},
    {"upper",
     [](const Value& v) {
       return v.is_string() && to_upper(v.string()) == v.string() &&
              to_lower(v.string()) != v.string();
     }},
};

struct Comparison {
  std::string_view name;
  const char* op;
};

constexpr Comparison kComparisons[] = {
    {"eq", "=="}, {"equalto", "=="}, {"ne", "!="}, {"lt", "<"},  {"lessthan", "<"},
    {"le", "<="}, {"gt", ">"},       {"ge", ">="}, {"in", "in"}, {"greaterthan", ">"},
};

}  // namespace

bool apply_test(const std::string& name, const Value& value, const Arguments& arguments,
                Budget& budget) {
  budget.step();
  if (value.is_string()) budget.bytes(value.string().size() / 16);
  for (const Test& test : kTests) {
    if (test.name == name) return test.holds(value);
  }
  const auto argument = [&]() -> const Value& {
    if (arguments.positional.empty()) {
      throw Failure(fmt::format("the test '{}' needs an argument", name));
    }
    return arguments.positional[0];
  };
  for (const Comparison& comparison : kComparisons) {
    if (comparison.name == name) return compare(comparison.op, value, argument(), budget);
  }
  if (name == "divisibleby") {
    return equal(arithmetic("%", value, argument(), budget), Value(int64_t{0}), budget);
  }
  if (name == "sameas") {
    return value.same_object(argument()) ||
           (std::string_view(value.type_name()) == argument().type_name() &&
            (value.is_none() || value.is_bool()) && equal(value, argument(), budget));
  }
  throw Failure(fmt::format("the test '{}' is not supported", name));
}

}  // namespace headrace::jinja
