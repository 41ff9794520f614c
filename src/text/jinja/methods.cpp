#include "text/jinja/methods.h"

#include <algorithm>

#include <fmt/format.h>

#include "text/jinja/operators.h"
#include "text/jinja/strings.h"
#include "text/unicode.h"

namespace headrace::jinja {
namespace {

constexpr uint64_t kBytesPerItem = 64;

Value strings_value(const std::vector<std::string>& strings, Budget& budget) {
  budget.bytes(strings.size() * kBytesPerItem);
  std::vector<Value> items;
  for (const std::string& text : strings) items.emplace_back(text);
  return make_list(std::move(items));
}

/// A call of one of a string's methods.
class StringCall {
 public:
  StringCall(const std::string& self, const std::string& name, const Arguments& arguments,
             Budget& budget)
      : self_(self), name_(name), arguments_(arguments), budget_(budget) {}

  std::optional<Value> run() {
    budget_.bytes(self_.size());
    if (auto value = change_case()) return value;
    if (auto value = cut()) return value;
    if (auto value = look()) return value;
    if (name_ == "replace") return replaced();
    if (name_ == "join") return joined();
    if (name_ == "format" || name_ == "format_map" || name_ == "encode") {
      throw Failure(fmt::format("the string method '{}' is not supported", name_));
    }
    return std::nullopt;
  }

 private:
  const std::string& text(size_t index) const {
    return text_argument(arguments_, index, "", name_);
  }

  std::optional<std::string_view> optional_text(size_t index, std::string_view name) const {
    const Value* value = arguments_.find(index, name);
    if (value == nullptr || value->is_none()) return std::nullopt;
    return text_argument(arguments_, index, name, name_);
  }

  std::optional<Value> change_case() const {
    if (name_ == "upper") return Value(to_upper(self_));
    if (name_ == "lower") return Value(to_lower(self_));
    if (name_ == "capitalize") return Value(capitalize(self_));
    if (name_ == "title") return Value(title(self_));
    if (name_ == "isdigit") return Value(all_digits(self_));
    if (name_ == "isalpha") return Value(all_letters(self_));
    if (name_ == "isalnum") return Value(all_alphanumeric(self_));
    if (name_ == "isspace") return Value(all_space(self_));
    if (name_ == "isupper") return Value(to_upper(self_) == self_ && to_lower(self_) != self_);
    if (name_ == "islower") return Value(to_lower(self_) == self_ && to_upper(self_) != self_);
    return std::nullopt;
  }

  std::optional<Value> cut() const {
    if (name_ == "strip") return stripped(Side::kBoth);
    if (name_ == "lstrip") return stripped(Side::kLeft);
    if (name_ == "rstrip") return stripped(Side::kRight);
    if (name_ == "split") return parts(split);
    if (name_ == "rsplit") return parts(split_from_right);
    if (name_ == "splitlines") return strings_value(split_lines(self_), budget_);
    if (name_ == "removeprefix") {
      return Value(self_.starts_with(text(0)) ? self_.substr(text(0).size()) : self_);
    }
    if (name_ == "removesuffix") {
      const bool has = !text(0).empty() && self_.ends_with(text(0));
      return Value(has ? self_.substr(0, self_.size() - text(0).size()) : self_);
    }
    return std::nullopt;
  }

  Value stripped(Side side) const {
    const auto characters = optional_text(0, "chars");
    if (characters) budget_.search(self_.size(), characters->size() * 1024);
    return Value(std::string(strip(self_, side, characters)));
  }

  template <typename Split>
  Value parts(Split split_text) const {
    const auto separator = optional_text(0, "sep");
    if (separator && separator->empty()) throw Failure(name_ + ": the separator is empty");
    budget_.search(self_.size(), separator ? separator->size() : 1);
    const int64_t limit = integer_argument(arguments_, 1, "maxsplit", -1, name_);
    return strings_value(split_text(self_, separator, limit), budget_);
  }

  std::optional<Value> look() const {
    if (name_ == "startswith") {
      return any_of([&](const std::string& affix) { return self_.starts_with(affix); });
    }
    if (name_ == "endswith") {
      return any_of([&](const std::string& affix) { return self_.ends_with(affix); });
    }
    if (name_ == "find" || name_ == "rfind" || name_ == "index") {
      budget_.search(self_.size(), text(0).size());
      const size_t at = name_ == "rfind" ? self_.rfind(text(0)) : self_.find(text(0));
      if (at == std::string::npos && name_ == "index") throw Failure("index: substring not found");
      if (at == std::string::npos) return Value(int64_t{-1});
      return Value(static_cast<int64_t>(text::count_code_points(self_.substr(0, at))));
    }
    if (name_ == "count") {
      budget_.search(self_.size(), text(0).size());
      if (text(0).empty()) {
        return Value(static_cast<int64_t>(text::count_code_points(self_)) + 1);
      }
      int64_t count = 0;
      for (size_t at = self_.find(text(0)); at != std::string::npos; ++count) {
        at = self_.find(text(0), at + text(0).size());
      }
      return Value(count);
    }
    return std::nullopt;
  }

  /// Whether `matches` holds for the argument, or for one of them if it is a tuple.
  template <typename Matches>
  Value any_of(Matches matches) const {
    const Value* argument = arguments_.find(0, "");
    if (argument == nullptr || !argument->is_tuple()) return Value(matches(text(0)));
    const auto& options = argument->list();
    return Value(std::any_of(options.begin(), options.end(), [&](const Value& option) {
      return option.is_string() && matches(option.string());
    }));
  }

  Value replaced() const {
    const int64_t count = integer_argument(arguments_, 2, "count", -1, name_);
    const uint64_t places = text(0).empty() ? self_.size() + 1 : self_.size() / text(0).size();
    budget_.search(self_.size(), text(0).size());
    budget_.bytes(places * (text(1).size() / 16 + 1));
    std::string out = replace(self_, text(0), text(1), count);
    budget_.bytes(out.size());
    return Value(std::move(out));
  }

  Value joined() const {
    if (arguments_.positional.empty()) throw Failure("join: an argument is missing");
    std::string out;
    const char* separator = nullptr;
    for (const Value& item : iterate(arguments_.positional[0], budget_)) {
      if (!item.is_string())
        throw Failure(fmt::format("join: expected str, not {}", item.type_name()));
      budget_.bytes(item.string().size() + self_.size());
      if (separator != nullptr) out += self_;
      separator = "";
      out += item.string();
    }
    return Value(std::move(out));
  }

  const std::string& self_;
  const std::string& name_;
  const Arguments& arguments_;
  Budget& budget_;
};

std::optional<Value> call_dict(const Value& dict, const std::string& name,
                               const Arguments& arguments, Budget& budget) {
  budget.bytes(dict.dict().items.size());
  if (name == "items") return dict_items(dict, budget);
  if (name == "keys") return make_list(iterate(dict, budget));
  if (name == "values") {
    budget.bytes(dict.dict().items.size() * kBytesPerItem);
    std::vector<Value> values;
    for (const auto& item : dict.dict().items) values.push_back(item.second);
    return make_list(std::move(values));
  }
  if (name == "get") {
    if (arguments.positional.empty()) throw Failure("get: an argument is missing");
    const Value& key = arguments.positional[0];
    const Value* found = key.is_string() ? dict.dict().find(key.string()) : nullptr;
    if (found != nullptr) return *found;
    const Value* fallback = arguments.find(1, "default");
    return fallback == nullptr ? Value(None{}) : *fallback;
  }
  if (name == "copy") return dict;
  return std::nullopt;
}

std::optional<Value> call_list(const Value& list, const std::string& name,
                               const Arguments& arguments, Budget& budget) {
  if (name != "count" && name != "index") return std::nullopt;
  if (arguments.positional.empty()) throw Failure(name + ": an argument is missing");
  int64_t count = 0;
  for (size_t i = 0; i < list.list().size(); ++i) {
    if (!equal(list.list()[i], arguments.positional[0], budget)) continue;
    if (name == "index") return Value(static_cast<int64_t>(i));
    ++count;
  }
  if (name == "index") throw Failure("index: the value is not in the list");
  return Value(count);
}

bool is_method(const Value& object, std::string_view name) {
  static constexpr std::string_view kString[] = {
      "upper",      "lower",    "capitalize",   "title",        "isdigit", "isalpha",
      "isalnum",    "isspace",  "isupper",      "islower",      "strip",   "lstrip",
      "rstrip",     "split",    "rsplit",       "splitlines",   "find",    "rfind",
      "startswith", "endswith", "removeprefix", "removesuffix", "index",   "count",
      "replace",    "join"};
  static constexpr std::string_view kDict[] = {"items", "keys", "values", "get", "copy"};
  static constexpr std::string_view kList[] = {"index", "count"};
  const auto has = [name](const auto& names) {
    return std::find(std::begin(names), std::end(names), name) != std::end(names);
  };
  return (object.is_string() && has(kString)) || (object.is_dict() && has(kDict)) ||
         (object.is_list() && has(kList));
}

bool would_change(const Value& object, std::string_view name) {
  static constexpr std::string_view kChanges[] = {"append", "extend",     "insert",  "pop",
                                                  "remove", "sort",       "reverse", "clear",
                                                  "update", "setdefault", "popitem"};
  return (object.is_list() || object.is_dict()) &&
         std::find(std::begin(kChanges), std::end(kChanges), name) != std::end(kChanges);
}

}  // namespace

const std::string& text_argument(const Arguments& arguments, size_t index, std::string_view name,
                                 std::string_view function) {
  const Value* value = arguments.find(index, name);
  if (value == nullptr) throw Failure(fmt::format("{}: an argument is missing", function));
  if (!value->is_string()) {
    throw Failure(fmt::format("{}: expected str, not {}", function, value->type_name()));
  }
  return value->string();
}

int64_t integer_argument(const Arguments& arguments, size_t index, std::string_view name,
                         int64_t fallback, std::string_view function) {
  const Value* value = arguments.find(index, name);
  if (value == nullptr) return fallback;
  if (!value->is_integer() && !value->is_bool()) {
    throw Failure(fmt::format("{}: expected int, not {}", function, value->type_name()));
  }
  return value->integer();
}

Value dict_items(const Value& dict, Budget& budget) {
  budget.bytes(dict.dict().items.size() * 3 * kBytesPerItem);
  std::vector<Value> items;
  for (const auto& [key, value] : dict.dict().items) {
    items.push_back(make_list({Value(key), value}, true));
  }
  return make_list(std::move(items));
}

std::optional<Value> call_method(const Value& object, const std::string& name,
                                 const Arguments& arguments, Budget& budget) {
  if (object.is_string()) return StringCall(object.string(), name, arguments, budget).run();
  if (would_change(object, name) && !(object.is_dict() && object.dict().find(name) != nullptr)) {
    throw Failure(fmt::format("'{}' would change a {}, which templates may not do", name,
                              object.type_name()));
  }
  if (object.is_dict()) return call_dict(object, name, arguments, budget);
  if (object.is_list()) return call_list(object, name, arguments, budget);
  return std::nullopt;
}

Value get_attribute(const Value& object, const std::string& name, Budget& budget) {
  if (is_method(object, name)) {
    return make_function(name, [object, name, &budget](const Arguments& arguments) {
      return *call_method(object, name, arguments, budget);
    });
  }
  return get_item(object, Value(name), budget);
}

}  // namespace headrace::jinja
