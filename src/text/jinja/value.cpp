#include "text/jinja/value.h"

#include <algorithm>

#include <fmt/format.h>

#include "text/unicode.h"

namespace headrace::jinja {
namespace {

constexpr int kMaxDepth = 64;
constexpr uint64_t kBytesPerItem = 64;

int checked_depth(int depth) {
  if (depth > kMaxDepth) throw Failure(fmt::format("values nested over {} deep", kMaxDepth));
  return depth;
}

}  // namespace

void Budget::step() {
  if (steps_ == 0) throw Failure("the template takes too many steps");
  --steps_;
}

void Budget::bytes(uint64_t count) {
  if (count > bytes_) throw Failure("the template makes or reads too much text");
  bytes_ -= count;
}

void Budget::search(uint64_t text, uint64_t needle) {
  constexpr uint64_t kFree = 1024;  // per byte of text: what a search skips quickly
  bytes(text + (needle > kFree ? text / kFree * needle : 0));
}

const Value* Arguments::find(size_t index, std::string_view name) const {
  if (index < positional.size()) return &positional[index];
  const auto found = std::find_if(named.begin(), named.end(),
                                  [&](const auto& argument) { return argument.first == name; });
  return found == named.end() ? nullptr : &found->second;
}

bool Value::is_dict() const {
  const auto* dict = std::get_if<std::shared_ptr<Dict>>(&data_);
  return dict != nullptr && !(*dict)->is_namespace;
}

bool Value::is_namespace() const {
  const auto* dict = std::get_if<std::shared_ptr<Dict>>(&data_);
  return dict != nullptr && (*dict)->is_namespace;
}

const std::vector<Value>& Value::list() const {
  return std::get<std::shared_ptr<const List>>(data_)->items;
}

bool Value::is_tuple() const {
  return is_list() && std::get<std::shared_ptr<const List>>(data_)->tuple;
}

int64_t Value::integer() const {
  return is_bool() ? int64_t{std::get<bool>(data_)} : std::get<int64_t>(data_);
}

double Value::number() const {
  return is_float() ? std::get<double>(data_) : static_cast<double>(integer());
}

bool Value::truthy() const {
  if (is_undefined() || is_none()) return false;
  if (is_number()) return number() != 0;
  if (is_string()) return !string().empty();
  if (is_list()) return !list().empty();
  if (is_dict()) return !dict().items.empty();
  return true;
}

const char* Value::type_name() const {
  if (is_undefined()) return "Undefined";
  if (is_none()) return "NoneType";
  if (is_bool()) return "bool";
  if (is_integer()) return "int";
  if (is_float()) return "float";
  if (is_string()) return "str";
  if (is_list()) return is_tuple() ? "tuple" : "list";
  if (is_dict()) return "dict";
  return is_namespace() ? "Namespace" : "function";
}

int Value::depth() const {
  if (is_list()) return std::get<std::shared_ptr<const List>>(data_)->depth;
  return is_dict() ? dict().depth : 0;
}

bool Value::same_object(const Value& other) const {
  if (is_list() && other.is_list()) return &list() == &other.list();
  if (is_function() && other.is_function()) return &function() == &other.function();
  const bool dicts = (is_dict() || is_namespace()) && (other.is_dict() || other.is_namespace());
  return dicts && &dict() == &other.dict();
}

const Value* Dict::find(std::string_view key) const {
  const auto found =
      std::find_if(items.begin(), items.end(), [&](const auto& item) { return item.first == key; });
  return found == items.end() ? nullptr : &found->second;
}

void Dict::set(const std::string& key, Value value) {
  const auto found =
      std::find_if(items.begin(), items.end(), [&](const auto& item) { return item.first == key; });
  if (found == items.end()) {
    items.emplace_back(key, std::move(value));
  } else {
    found->second = std::move(value);
  }
}

Value make_list(std::vector<Value> items, bool tuple) {
  auto list = std::make_shared<List>();
  for (const Value& item : items) {
    list->depth = std::max(list->depth, checked_depth(item.depth() + 1));
  }
  list->items = std::move(items);
  list->tuple = tuple;
  return Value(std::shared_ptr<const List>(std::move(list)));
}

Value make_dict(std::vector<std::pair<std::string, Value>> items) {
  auto dict = std::make_shared<Dict>();
  for (auto& [key, value] : items) {
    dict->depth = std::max(dict->depth, checked_depth(value.depth() + 1));
    dict->set(key, std::move(value));
  }
  return Value(std::move(dict));
}

Value make_function(std::string name, std::function<Value(const Arguments&)> call) {
  auto function = std::make_shared<const Function>(Function{std::move(name), std::move(call)});
  return Value(std::move(function));
}

bool equal(const Value& a, const Value& b, Budget& budget) {
  budget.step();
  if (a.is_number() && b.is_number()) {
    if (a.is_float() || b.is_float()) return a.number() == b.number();
    return a.integer() == b.integer();
  }
  if (a.is_string() && b.is_string()) {
    budget.bytes(std::min(a.string().size(), b.string().size()));
    return a.string() == b.string();
  }
  if (a.is_list() && b.is_list()) {
    if (a.is_tuple() != b.is_tuple()) return false;
    return std::equal(
        a.list().begin(), a.list().end(), b.list().begin(), b.list().end(),
        [&](const Value& left, const Value& right) { return equal(left, right, budget); });
  }
  if (a.is_dict() && b.is_dict()) {
    const auto& items = a.dict().items;
    return items.size() == b.dict().items.size() &&
           std::all_of(items.begin(), items.end(), [&](const auto& item) {
             budget.bytes(b.dict().items.size());
             const Value* other = b.dict().find(item.first);
             return other != nullptr && equal(item.second, *other, budget);
           });
  }
  if (a.is_none() || a.is_undefined()) {
    return a.is_none() == b.is_none() && a.is_undefined() == b.is_undefined();
  }
  return a.same_object(b);
}

bool less(const Value& a, const Value& b, Budget& budget) {
  budget.step();
  if (a.is_number() && b.is_number()) {
    if (a.is_float() || b.is_float()) return a.number() < b.number();
    return a.integer() < b.integer();
  }
  if (a.is_string() && b.is_string()) {
    budget.bytes(std::min(a.string().size(), b.string().size()));
    return a.string() < b.string();
  }
  if (a.is_list() && b.is_list() && a.is_tuple() == b.is_tuple()) {
    const auto& left = a.list();
    const auto& right = b.list();
    for (size_t i = 0; i < std::min(left.size(), right.size()); ++i) {
      if (!equal(left[i], right[i], budget)) return less(left[i], right[i], budget);
    }
    return left.size() < right.size();
  }
  throw Failure(
      fmt::format("'{}' and '{}' cannot be compared by size", a.type_name(), b.type_name()));
}

std::vector<Value> iterate(const Value& value, Budget& budget) {
  std::vector<Value> items;
  if (value.is_list()) {
    items = value.list();
  } else if (value.is_dict()) {
    for (const auto& item : value.dict().items) items.emplace_back(item.first);
  } else if (value.is_string()) {
    std::string_view rest = value.string();
    budget.bytes(rest.size() * kBytesPerItem);
    while (!rest.empty()) {
      const size_t length = std::min(text::utf8_length(rest[0]), rest.size());
      items.emplace_back(std::string(rest.substr(0, length)));
      rest.remove_prefix(length);
    }
    return items;
  } else if (!value.is_undefined()) {
    throw Failure(fmt::format("'{}' cannot be iterated over", value.type_name()));
  }
  budget.bytes(items.size() * kBytesPerItem);
  return items;
}

}  // namespace headrace::jinja
