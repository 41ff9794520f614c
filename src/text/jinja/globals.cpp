// Interpreter: the functions that every template can call.

#include <array>
#include <ctime>

#include <fmt/format.h>

#include "text/jinja/interpreter.h"
#include "text/jinja/methods.h"
#include "text/unicode.h"

namespace headrace::jinja {
namespace {

constexpr int64_t kMaxRange = 100'000;  // jinja2's sandbox has the same

Value make_range(const Arguments& arguments, Budget& budget) {
  const size_t count = arguments.positional.size();
  if (count == 0) throw Failure("range: an argument is missing");
  const auto argument = [&](size_t i) { return integer_argument(arguments, i, "", 0, "range"); };
  const int64_t start = count == 1 ? 0 : argument(0);
  const int64_t stop = argument(count == 1 ? 0 : 1);
  const int64_t step = count > 2 ? argument(2) : 1;
  if (step == 0) throw Failure("range: the step is 0");
  std::vector<Value> items;
  for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
    if (items.size() >= kMaxRange) {
      throw Failure(fmt::format("range: more than {} numbers", kMaxRange));
    }
    budget.bytes(sizeof(Value));
    items.emplace_back(i);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return make_list(std::move(items));
}

Value format_time(const Arguments& arguments, int64_t unix_time) {
  const std::string& format = text_argument(arguments, 0, "format", "strftime_now");
  const std::time_t seconds = unix_time < 0 ? std::time(nullptr) : unix_time;
  std::tm parts{};
  localtime_r(&seconds, &parts);
  std::array<char, 512> buffer{};
  if (format.size() > buffer.size() / 4) throw Failure("strftime_now: the format is too long");
  const size_t length = std::strftime(buffer.data(), buffer.size(), format.c_str(), &parts);
  return Value(text::repair_utf8({buffer.data(), length}));
}

}  // namespace

Value Interpreter::make_namespace(const Arguments& arguments) {
  auto space = std::make_shared<Dict>();
  space->is_namespace = true;
  if (!arguments.positional.empty()) {
    if (!arguments.positional[0].is_dict()) throw Failure("namespace: expected a mapping");
    space->items = arguments.positional[0].dict().items;
  }
  for (const auto& [name, value] : arguments.named) space->set(name, value);
  budget_.bytes(sizeof(Dict) + space->items.size() * sizeof(Value));
  namespaces_.push_back(space);
  return Value(std::move(space));
}

void Interpreter::add_globals(const RenderOptions& options) {
  const auto add = [this](const char* name, std::function<Value(const Arguments&)> call) {
    globals_.set(name, make_function(name, std::move(call)));
  };
  add("range", [this](const Arguments& arguments) { return make_range(arguments, budget_); });
  add("namespace", [this](const Arguments& arguments) { return make_namespace(arguments); });
  add("dict", [](const Arguments& arguments) {
    Variables items = arguments.positional.empty() || !arguments.positional[0].is_dict()
                          ? Variables{}
                          : arguments.positional[0].dict().items;
    items.insert(items.end(), arguments.named.begin(), arguments.named.end());
    return make_dict(std::move(items));
  });
  add("raise_exception", [this](const Arguments& arguments) -> Value {
    throw Failure(arguments.positional.empty() ? "the template refuses the conversation"
                                               : to_text(arguments.positional[0], budget_));
  });
  add("strftime_now", [time = options.unix_time](const Arguments& arguments) {
    return format_time(arguments, time);
  });
}

}  // namespace headrace::jinja
