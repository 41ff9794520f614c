#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace headrace::jinja {

/// Why a template cannot go on; whoever runs it adds the line.
class Failure : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// What a run may still spend, so that a hostile template ends with an error and neither hangs nor
/// fills the memory. Confined to one thread.
class Budget {
 public:
  Budget(uint64_t steps, uint64_t bytes) : steps_(steps), bytes_(bytes) {}
  void step();
  /// Charges text or lists that are made or looked through.
  void bytes(uint64_t count);
  /// Charges a search for `needle` bytes in `text` bytes.
  void search(uint64_t text, uint64_t needle);

 private:
  uint64_t steps_;
  uint64_t bytes_;
};

class Value;
struct List;
struct Dict;
struct Function;

/// Positional and named arguments of a call.
struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;

  /// The argument at `index` or called `name`, null if it was not given.
  const Value* find(size_t index, std::string_view name) const;
};

struct Undefined {
  std::string what;  // the name that was not found
};
struct None {};

/// A value of the template language, with Python's meaning. Lists and dictionaries are shared,
/// since assignment does not copy them in Python; they never change after they were made, except
/// namespaces. Copying is cheap but for strings. Confined to one thread.
class Value {
 public:
  Value() : data_(Undefined{}) {}
  explicit Value(Undefined undefined) : data_(std::move(undefined)) {}
  explicit Value(None none) : data_(none) {}
  explicit Value(bool value) : data_(value) {}
  explicit Value(int64_t value) : data_(value) {}
  explicit Value(double value) : data_(value) {}
  explicit Value(std::string value) : data_(std::move(value)) {}
  explicit Value(const char* value) : data_(std::string(value)) {}
  explicit Value(std::shared_ptr<const List> value) : data_(std::move(value)) {}
  explicit Value(std::shared_ptr<Dict> value) : data_(std::move(value)) {}
  explicit Value(std::shared_ptr<const Function> value) : data_(std::move(value)) {}

  bool is_undefined() const { return std::holds_alternative<Undefined>(data_); }
  bool is_none() const { return std::holds_alternative<None>(data_); }
  bool is_bool() const { return std::holds_alternative<bool>(data_); }
  /// An int that is no bool.
  bool is_integer() const { return std::holds_alternative<int64_t>(data_); }
  bool is_float() const { return std::holds_alternative<double>(data_); }
  /// bool, int or float, as Python counts them.
  bool is_number() const { return is_bool() || is_integer() || is_float(); }
  bool is_string() const { return std::holds_alternative<std::string>(data_); }
  bool is_list() const { return std::holds_alternative<std::shared_ptr<const List>>(data_); }
  /// A dictionary, not a namespace.
  bool is_dict() const;
  bool is_namespace() const;
  bool is_function() const {
    return std::holds_alternative<std::shared_ptr<const Function>>(data_);
  }

  // REQUIRES the kind that the name says.
  const std::string& string() const { return std::get<std::string>(data_); }
  const std::vector<Value>& list() const;
  bool is_tuple() const;
  Dict& dict() const { return *std::get<std::shared_ptr<Dict>>(data_); }
  const Function& function() const { return *std::get<std::shared_ptr<const Function>>(data_); }
  /// Of an integer or bool.
  int64_t integer() const;
  /// Of any number.
  double number() const;
  const std::string& undefined_name() const { return std::get<Undefined>(data_).what; }

  bool truthy() const;
  /// Python's name for the type.
  const char* type_name() const;
  /// How deep lists and dictionaries are nested in it.
  int depth() const;
  /// Whether both are the same object.
  bool same_object(const Value& other) const;

 private:
  std::variant<Undefined, None, bool, int64_t, double, std::string, std::shared_ptr<const List>,
               std::shared_ptr<Dict>, std::shared_ptr<const Function>>
      data_;
};

struct List {
  std::vector<Value> items;
  bool tuple = false;
  int depth = 1;
};

struct Dict {
  std::vector<std::pair<std::string, Value>> items;  // in order of insertion
  bool is_namespace = false;
  int depth = 1;

  const Value* find(std::string_view key) const;
  void set(const std::string& key, Value value);
};

struct Function {
  std::string name;
  std::function<Value(const Arguments&)> call;
};

/// Failure if the nesting gets too deep.
Value make_list(std::vector<Value> items, bool tuple = false);
Value make_dict(std::vector<std::pair<std::string, Value>> items);
Value make_function(std::string name, std::function<Value(const Arguments&)> call);

/// Python's str().
std::string to_text(const Value& value, Budget& budget);
/// Python's repr().
std::string to_repr(const Value& value, Budget& budget);
/// Python's json.dumps(value, ensure_ascii=False, indent=indent); `indent` < 0: on one line.
std::string to_json(const Value& value, int indent, Budget& budget);

/// Python's ==.
bool equal(const Value& a, const Value& b, Budget& budget);
/// Python's <. Failure for types that have no order.
bool less(const Value& a, const Value& b, Budget& budget);

/// What a for loop visits: a list's items, a dictionary's keys, a string's characters. Failure for
/// what cannot be iterated.
std::vector<Value> iterate(const Value& value, Budget& budget);

}  // namespace headrace::jinja
