#pragma once

#include <string>

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

namespace headrace::python {

/// Reads attributes of one Python object into fields of a struct.
class Attributes {
 public:
  /// `name` is the object's type, for messages. Borrows the object.
  Attributes(const pybind11::object& object, const char* name) : object_(object), name_(name) {}

  /// TypeError if the object has no such attribute.
  pybind11::object get(const char* key) const {
    if (!pybind11::hasattr(object_, key)) {
      throw pybind11::type_error(pybind11::repr(object_).cast<std::string>() + " is no headrace." +
                                 name_);
    }
    return object_.attr(key);
  }

  /// TypeError naming the field if its value cannot become a `Value`.
  template <typename Value>
  void read(const char* key, Value& value) const {
    const pybind11::object found = get(key);
    try {
      value = found.cast<Value>();
    } catch (const pybind11::cast_error&) {
      throw pybind11::type_error(std::string(name_) + "." + key + " cannot be " +
                                 pybind11::repr(found).cast<std::string>());
    }
  }

 private:
  const pybind11::object& object_;
  const char* name_;
};

}  // namespace headrace::python
