#include "text/jinja/operators.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "text/unicode.h"

namespace headrace::jinja {
namespace {

constexpr uint64_t kBytesPerItem = 64;

[[noreturn]] void refuse(const std::string& op, const Value& a, const Value& b) {
  const Value& undefined = a.is_undefined() ? a : b;
  if (undefined.is_undefined()) {
    throw Failure(fmt::format("'{}' is undefined", undefined.undefined_name()));
  }
  throw Failure(fmt::format("'{}' {} '{}' is not possible", a.type_name(), op, b.type_name()));
}

int64_t floor_divide(int64_t a, int64_t b) {
  const int64_t quotient = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}

Value integer_power(int64_t base, int64_t exponent) {
  if (exponent < 0)
    return Value(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  int64_t result = 1;
  for (; exponent > 0; exponent >>= 1) {
    const bool odd = (exponent & 1) != 0;
    if (odd && __builtin_mul_overflow(result, base, &result))
      throw Failure("a number beyond 64 bits");
    if (exponent > 1 && __builtin_mul_overflow(base, base, &base)) {
      throw Failure("a number beyond 64 bits");
    }
  }
  return Value(result);
}

Value integers(const std::string& op, int64_t a, int64_t b) {
  int64_t result = 0;
  bool overflow = false;
  if (op == "+") {
    overflow = __builtin_add_overflow(a, b, &result);
  } else if (op == "-") {
    overflow = __builtin_sub_overflow(a, b, &result);
  } else if (op == "*") {
    overflow = __builtin_mul_overflow(a, b, &result);
  } else if (op == "**") {
    return integer_power(a, b);
  } else {
    if (b == 0) throw Failure("division by zero");
    if (op == "/") return Value(static_cast<double>(a) / static_cast<double>(b));
    overflow = a == INT64_MIN && b == -1;
    if (!overflow) result = op == "//" ? floor_divide(a, b) : a - floor_divide(a, b) * b;
  }
  if (overflow) throw Failure("a number beyond 64 bits");
  return Value(result);
}

Value floats(const std::string& op, double a, double b) {
  if (op == "+") return Value(a + b);
  if (op == "-") return Value(a - b);
  if (op == "*") return Value(a * b);
  if (op == "**") return Value(std::pow(a, b));
  if (b == 0) throw Failure("division by zero");
  if (op == "/") return Value(a / b);
  if (op == "//") return Value(std::floor(a / b));
  const double rest = std::fmod(a, b);
  return Value(rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest);
}

Value repeat(const Value& value, int64_t times, Budget& budget) {
  const auto count = static_cast<uint64_t>(std::max<int64_t>(times, 0));
  const auto charge = [&](uint64_t size) {
    uint64_t total = 0;
    if (__builtin_mul_overflow(size, count, &total)) total = UINT64_MAX;
    budget.bytes(total);
  };
  if (value.is_string()) {
    charge(value.string().size());
    std::string out;
    for (uint64_t i = 0; i < count && !value.string().empty(); ++i) out += value.string();
    return Value(std::move(out));
  }
  charge(value.list().size() * kBytesPerItem);
  std::vector<Value> out;
  for (uint64_t i = 0; i < count && !value.list().empty(); ++i) {
    out.insert(out.end(), value.list().begin(), value.list().end());
  }
  return make_list(std::move(out), value.is_tuple());
}

bool contains(const Value& container, const Value& value, Budget& budget) {
  if (container.is_string()) {
    if (!value.is_string()) throw Failure("'in <string>' needs a string on its left");
    budget.search(container.string().size(), value.string().size());
    return container.string().find(value.string()) != std::string::npos;
  }
  if (container.is_dict()) {
    budget.bytes(container.dict().items.size());
    return value.is_string() && container.dict().find(value.string()) != nullptr;
  }
  const std::vector<Value> items = iterate(container, budget);
  return std::any_of(items.begin(), items.end(),
                     [&](const Value& item) { return equal(item, value, budget); });
}

/// Start offsets of the characters of `text`, and its end.
std::vector<size_t> character_offsets(std::string_view text, Budget& budget) {
  budget.bytes(text.size() * sizeof(size_t));
  std::vector<size_t> offsets;
  for (size_t at = 0; at < text.size(); at += text::utf8_length(text[at])) offsets.push_back(at);
  offsets.push_back(text.size());
  return offsets;
}

/// Indices that Python's slice picks from a sequence of `size`.
std::vector<size_t> slice_indices(const SliceBounds& bounds, int64_t size) {
  const int64_t step = bounds.step.value_or(1);
  if (step == 0) throw Failure("a slice's step is 0");
  const int64_t low = step > 0 ? 0 : -1;
  const int64_t high = step > 0 ? size : size - 1;
  const auto clip = [&](std::optional<int64_t> bound, int64_t fallback) {
    if (!bound) return fallback;
    return std::clamp(*bound < 0 ? std::max(*bound, -size - 1) + size : *bound, low, high);
  };
  const int64_t start = clip(bounds.start, step > 0 ? low : high);
  const int64_t stop = clip(bounds.stop, step > 0 ? high : low);
  std::vector<size_t> indices;
  for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
    indices.push_back(static_cast<size_t>(i));
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return indices;
}

}  // namespace

Value arithmetic(const std::string& op, const Value& a, const Value& b, Budget& budget) {
  if (a.is_number() && b.is_number()) {
    return a.is_float() || b.is_float() ? floats(op, a.number(), b.number())
                                        : integers(op, a.integer(), b.integer());
  }
  if (op == "+" && a.is_string() && b.is_string()) {
    budget.bytes(a.string().size() + b.string().size());
    return Value(a.string() + b.string());
  }
  if (op == "+" && a.is_list() && b.is_list() && a.is_tuple() == b.is_tuple()) {
    budget.bytes((a.list().size() + b.list().size()) * kBytesPerItem);
    std::vector<Value> items = a.list();
    items.insert(items.end(), b.list().begin(), b.list().end());
    return make_list(std::move(items), a.is_tuple());
  }
  const auto repeats = [](const Value& x, const Value& n) {
    return (x.is_string() || x.is_list()) && (n.is_integer() || n.is_bool());
  };
  if (op == "*" && repeats(a, b)) return repeat(a, b.integer(), budget);
  if (op == "*" && repeats(b, a)) return repeat(b, a.integer(), budget);
  refuse(op, a, b);
}

bool compare(const std::string& op, const Value& a, const Value& b, Budget& budget) {
  if (op == "==") return equal(a, b, budget);
  if (op == "!=") return !equal(a, b, budget);
  if (op == "in") return contains(b, a, budget);
  if (op == "not in") return !contains(b, a, budget);
  if (a.is_undefined() || b.is_undefined()) refuse(op, a, b);
  if (op == "<") return less(a, b, budget);
  if (op == ">") return less(b, a, budget);
  if (op == "<=") return less(a, b, budget) || equal(a, b, budget);
  return less(b, a, budget) || equal(a, b, budget);
}

Value get_item(const Value& object, const Value& key, Budget& budget) {
  if (object.is_undefined()) {
    throw Failure(fmt::format("'{}' is undefined", object.undefined_name()));
  }
  if (object.is_dict() || object.is_namespace()) {
    const Value* found = key.is_string() ? object.dict().find(key.string()) : nullptr;
    if (found != nullptr) return *found;
  } else if (key.is_integer() || key.is_bool()) {
    int64_t index = key.integer();
    if (object.is_list()) {
      const auto size = static_cast<int64_t>(object.list().size());
      if (index < 0) index += size;
      if (index >= 0 && index < size) return object.list()[static_cast<size_t>(index)];
    } else if (object.is_string()) {
      const auto offsets = character_offsets(object.string(), budget);
      const auto size = static_cast<int64_t>(offsets.size()) - 1;
      if (index < 0) index += size;
      if (index >= 0 && index < size) {
        const size_t at = offsets[static_cast<size_t>(index)];
        return Value(object.string().substr(at, offsets[static_cast<size_t>(index) + 1] - at));
      }
    }
  }
  return Value(Undefined{key.is_string() ? key.string() : "an item"});
}

Value get_slice(const Value& object, const SliceBounds& bounds, Budget& budget) {
  if (object.is_list()) {
    const auto& items = object.list();
    budget.bytes(items.size() * kBytesPerItem);
    std::vector<Value> picked;
    for (const size_t i : slice_indices(bounds, static_cast<int64_t>(items.size()))) {
      picked.push_back(items[i]);
    }
    return make_list(std::move(picked), object.is_tuple());
  }
  if (!object.is_string()) {
    throw Failure(object.is_undefined() ? fmt::format("'{}' is undefined", object.undefined_name())
                                        : fmt::format("'{}' cannot be sliced", object.type_name()));
  }
  const auto offsets = character_offsets(object.string(), budget);
  std::string picked;
  for (const size_t i : slice_indices(bounds, static_cast<int64_t>(offsets.size()) - 1)) {
    picked.append(object.string(), offsets[i], offsets[i + 1] - offsets[i]);
  }
  return Value(std::move(picked));
}

}  // namespace headrace::jinja
