#include "text/jinja/filters.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <string_view>

#include <fmt/format.h>

#include "text/jinja/methods.h"
#include "text/jinja/operators.h"
#include "text/jinja/strings.h"
#include "text/unicode.h"

namespace headrace::jinja {
namespace {

/// One application of a filter.
struct Call {
  const Value& input;
  const Arguments& arguments;
  Budget& budget;

  /// The argument at `index` or called `name`; undefined if it was not given.
  Value argument(size_t index, std::string_view name) const {
    const Value* value = arguments.find(index, name);
    return value == nullptr ? Value() : *value;
  }
  std::string text() const { return to_text(input, budget); }
  std::vector<Value> items() const { return iterate(input, budget); }
};

/// `object` followed along "a.b.0".
Value follow(Value object, const Value& path, Budget& budget) {
  if (!path.is_string()) return get_item(object, path, budget);
  for (const std::string& part : split(path.string(), ".", -1)) {
    int64_t index = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), index);
    const bool number = error == std::errc() && end == part.data() + part.size();
    object = get_item(object, number ? Value(index) : Value(part), budget);
  }
  return object;
}

Arguments without_first(const Arguments& arguments, size_t count) {
  Arguments rest;
  const size_t skipped = std::min(count, arguments.positional.size());
  rest.positional.assign(arguments.positional.begin() + static_cast<std::ptrdiff_t>(skipped),
                         arguments.positional.end());
  rest.named = arguments.named;
  return rest;
}

Value filter_trim(const Call& call) {
  const Value characters = call.argument(0, "chars");
  const std::string text = call.text();
  if (!characters.is_string()) return Value(std::string(strip(text, Side::kBoth)));
  call.budget.search(text.size(), characters.string().size() * 1024);
  return Value(std::string(strip(text, Side::kBoth, characters.string())));
}

Value filter_length(const Call& call) {
  const Value& input = call.input;
  size_t length = 0;
  if (input.is_string()) {
    call.budget.bytes(input.string().size());
    length = text::count_code_points(input.string());
  } else if (input.is_list()) {
    length = input.list().size();
  } else if (input.is_dict()) {
    length = input.dict().items.size();
  } else if (!input.is_undefined()) {
    throw Failure(fmt::format("a {} has no length", input.type_name()));
  }
  return Value(static_cast<int64_t>(length));
}

Value filter_default(const Call& call) {
  const bool falsy = call.argument(1, "boolean").truthy();
  if (!call.input.is_undefined() && !(falsy && !call.input.truthy())) return call.input;
  const Value* fallback = call.arguments.find(0, "default_value");
  return fallback == nullptr ? Value("") : *fallback;
}

Value filter_join(const Call& call) {
  const Value separator = call.argument(0, "d");
  const std::string between = separator.is_undefined() ? "" : to_text(separator, call.budget);
  const Value attribute = call.argument(1, "attribute");
  std::string out;
  bool first = true;
  for (const Value& item : call.items()) {
    if (!first) out += between;
    first = false;
    call.budget.bytes(between.size());
    out += to_text(attribute.is_undefined() ? item : follow(item, attribute, call.budget),
                   call.budget);
  }
  return Value(std::move(out));
}

Value filter_first(const Call& call) {
  const std::vector<Value> items = call.items();
  return items.empty() ? Value(Undefined{"the first item of nothing"}) : items.front();
}

Value filter_last(const Call& call) {
  const std::vector<Value> items = call.items();
  return items.empty() ? Value(Undefined{"the last item of nothing"}) : items.back();
}

Value filter_replace(const Call& call) {
  Arguments arguments;
  arguments.positional = {call.argument(0, "old"), call.argument(1, "new")};
  for (Value& argument : arguments.positional) argument = Value(to_text(argument, call.budget));
  const Value count = call.argument(2, "count");
  if (count.is_integer()) arguments.positional.push_back(count);
  return *call_method(Value(call.text()), "replace", arguments, call.budget);
}

Value filter_int(const Call& call) {
  const Value& input = call.input;
  if (input.is_integer() || input.is_bool()) return Value(input.integer());
  double number = NAN;
  if (input.is_float()) number = input.number();
  if (input.is_string()) {
    const std::string text(strip(input.string(), Side::kBoth));
    int64_t integer = 0;
    const char* begin = text.data() + (text.starts_with('+') ? 1 : 0);
    const auto [end, error] = std::from_chars(begin, text.data() + text.size(), integer);
    if (error == std::errc() && end == text.data() + text.size()) return Value(integer);
    char* stop = nullptr;
    number = std::strtod(text.c_str(), &stop);
    if (text.empty() || *stop != '\0') number = NAN;
  }
  if (std::fabs(number) < 9.2e18) return Value(static_cast<int64_t>(number));
  const Value* fallback = call.arguments.find(0, "default");
  return fallback == nullptr ? Value(int64_t{0}) : *fallback;
}

Value filter_float(const Call& call) {
  if (call.input.is_number()) return Value(call.input.number());
  if (call.input.is_string()) {
    const std::string text(strip(call.input.string(), Side::kBoth));
    char* stop = nullptr;
    const double number = std::strtod(text.c_str(), &stop);
    if (!text.empty() && *stop == '\0') return Value(number);
  }
  const Value* fallback = call.arguments.find(0, "default");
  return fallback == nullptr ? Value(0.0) : *fallback;
}

Value filter_abs(const Call& call) {
  if (!call.input.is_number()) throw Failure("abs: expected a number");
  if (call.input.is_float()) return Value(std::fabs(call.input.number()));
  const int64_t number = call.input.integer();
  return number < 0 ? arithmetic("-", Value(int64_t{0}), Value(number), call.budget)
                    : Value(number);
}

Value filter_items(const Call& call) {
  if (call.input.is_undefined()) return make_list({});
  if (!call.input.is_dict()) throw Failure("items: expected a mapping");
  return dict_items(call.input, call.budget);
}

Value filter_tojson(const Call& call) {
  for (const auto& argument : call.arguments.named) {
    if (argument.first != "indent" && argument.first != "ensure_ascii") {
      throw Failure(fmt::format("tojson: '{}' is not supported", argument.first));
    }
    if (argument.first == "ensure_ascii" && argument.second.truthy()) {
      throw Failure("tojson: ensure_ascii is not supported");
    }
  }
  const Value* indent = call.arguments.find(1, "indent");
  if (indent == nullptr || indent->is_none()) {
    return Value(to_json(call.input, -1, call.budget));
  }
  if (!indent->is_integer() || indent->integer() < 0 || indent->integer() > 64) {
    throw Failure("tojson: indent goes from 0 to 64");
  }
  return Value(to_json(call.input, static_cast<int>(indent->integer()), call.budget));
}

Value filter_indent(const Call& call) {
  const Value width = call.argument(0, "width");
  const bool first = call.argument(1, "first").truthy();
  const bool blank = call.argument(2, "blank").truthy();
  const int64_t count = width.is_integer() ? width.integer() : 4;
  if (count < 0 || count > 1024) throw Failure("indent: the width goes from 0 to 1024");
  const std::string indent =
      width.is_string() ? width.string() : std::string(static_cast<size_t>(count), ' ');
  std::string text = call.text() + "\n";  // keeps an empty last line
  std::string out;
  bool at_first = true;
  for (const std::string& line : split_lines(text)) {
    call.budget.bytes(line.size() + indent.size() + 1);
    if (!at_first) out += '\n';
    if (at_first ? first : blank || !line.empty()) out += indent;
    at_first = false;
    out += line;
  }
  return Value(std::move(out));
}

Value filter_map(const Call& call) {
  const Value* attribute = nullptr;
  for (const auto& argument : call.arguments.named) {
    if (argument.first == "attribute") attribute = &argument.second;
  }
  std::vector<Value> mapped;
  for (const Value& item : call.items()) {
    if (attribute != nullptr) {
      Value value = follow(item, *attribute, call.budget);
      if (value.is_undefined()) {
        const Value* fallback = call.arguments.find(SIZE_MAX, "default");
        if (fallback != nullptr) value = *fallback;
      }
      mapped.push_back(std::move(value));
    } else {
      mapped.push_back(apply_filter(text_argument(call.arguments, 0, "filter", "map"), item,
                                    without_first(call.arguments, 1), call.budget));
    }
  }
  return make_list(std::move(mapped));
}

/// select, reject, selectattr, rejectattr: items for which a test holds, or does not.
Value filter_select(const Call& call, bool by_attribute, bool keep) {
  const size_t first = by_attribute ? 1 : 0;
  const bool has_test = call.arguments.positional.size() > first;
  const Arguments rest = without_first(call.arguments, first + 1);
  std::vector<Value> selected;
  for (const Value& item : call.items()) {
    const Value value =
        by_attribute ? follow(item, call.argument(0, "attribute"), call.budget) : item;
    const bool holds = has_test ? apply_test(text_argument(call.arguments, first, "", "select"),
                                             value, rest, call.budget)
                                : value.truthy();
    if (holds == keep) selected.push_back(item);
  }
  return make_list(std::move(selected));
}

Value filter_reverse(const Call& call) {
  if (call.input.is_string())
    return get_slice(call.input, {.start = {}, .stop = {}, .step = -1}, call.budget);
  std::vector<Value> items = call.items();
  std::reverse(items.begin(), items.end());
  return make_list(std::move(items));
}

Value filter_sort(const Call& call) {
  const Value attribute = call.argument(2, "attribute");
  const bool case_sensitive = call.argument(1, "case_sensitive").truthy();
  const auto key = [&](const Value& item) {
    Value value = attribute.is_undefined() ? item : follow(item, attribute, call.budget);
    return value.is_string() && !case_sensitive ? Value(to_lower(value.string())) : value;
  };
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value& item : call.items()) keyed.emplace_back(key(item), item);
  const bool reverse = call.argument(0, "reverse").truthy();
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& a, const auto& b) {
    return reverse ? less(b.first, a.first, call.budget) : less(a.first, b.first, call.budget);
  });
  std::vector<Value> sorted;
  for (auto& item : keyed) sorted.push_back(std::move(item.second));
  return make_list(std::move(sorted));
}

Value filter_unique(const Call& call) {
  std::vector<Value> seen;
  std::vector<Value> kept;
  for (const Value& item : call.items()) {
    const Value key = item.is_string() ? Value(to_lower(item.string())) : item;
    const bool known = std::any_of(seen.begin(), seen.end(), [&](const Value& other) {
      return equal(key, other, call.budget);
    });
    if (known) continue;
    seen.push_back(key);
    kept.push_back(item);
  }
  return make_list(std::move(kept));
}

Value filter_sum(const Call& call) {
  Value total(int64_t{0});
  for (const Value& item : call.items()) total = arithmetic("+", total, item, call.budget);
  return total;
}

struct Filter {
  std::string_view name;
  Value (*apply)(const Call&);
};

constexpr Filter kFilters[] = {
    {"trim", filter_trim},
    {"length", filter_length},
    {"count", filter_length},
    {"default", filter_default},
    {"d", filter_default},
    {"join", filter_join},
    {"first", filter_first},
    {"last", filter_last},
    {"replace", filter_replace},
    {"int", filter_int},
    {"float", filter_float},
    {"abs", filter_abs},
    {"items", filter_items},
    {"tojson", filter_tojson},
    {"indent", filter_indent},
    {"map", filter_map},
    {"reverse", filter_reverse},
    {"sort", filter_sort},
    {"unique", filter_unique},
    {"sum", filter_sum},
    {"upper", [](const Call& call) { return Value(to_upper(call.text())); }},
    {"lower", [](const Call& call) { return Value(to_lower(call.text())); }},
    {"capitalize", [](const Call& call) { return Value(capitalize(call.text())); }},
    {"title", [](const Call& call) { return Value(title(call.text())); }},
    {"string", [](const Call& call) { return Value(call.text()); }},
    {"safe", [](const Call& call) { return Value(call.text()); }},
    {"list", [](const Call& call) { return make_list(call.items()); }},
    {"select", [](const Call& call) { return filter_select(call, false, true); }},
    {"reject", [](const Call& call) { return filter_select(call, false, false); }},
    {"selectattr", [](const Call& call) { return filter_select(call, true, true); }},
    {"rejectattr", [](const Call& call) { return filter_select(call, true, false); }},
};

}  // namespace

Value apply_filter(const std::string& name, const Value& input, const Arguments& arguments,
                   Budget& budget) {
  budget.step();
  for (const Filter& filter : kFilters) {
    if (filter.name == name) {
      return filter.apply({.input = input, .arguments = arguments, .budget = budget});
    }
  }
  throw Failure(fmt::format("the filter '{}' is not supported", name));
}

}  // namespace headrace::jinja
