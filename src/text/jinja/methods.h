#pragma once

#include <optional>
#include <string>

#include "text/jinja/value.h"

namespace headrace::jinja {

/// Calls a method of a string, dictionary or list with Python's meaning; nullopt if the object has
/// no such method. Failure for wrong arguments and for methods that would change the object.
std::optional<Value> call_method(const Value& object, const std::string& name,
                                 const Arguments& arguments, Budget& budget);

/// `object.name`: a method first, then an item, as jinja2 looks it up; an undefined value if there
/// is neither. `budget` outlives the result.
Value get_attribute(const Value& object, const std::string& name, Budget& budget);

// Arguments with a type; Failure naming `function` where they are missing or of another type.
const std::string& text_argument(const Arguments& arguments, size_t index, std::string_view name,
                                 std::string_view function);
int64_t integer_argument(const Arguments& arguments, size_t index, std::string_view name,
                         int64_t fallback, std::string_view function);

/// The items of a dictionary as (key, value) tuples.
Value dict_items(const Value& dict, Budget& budget);

}  // namespace headrace::jinja
