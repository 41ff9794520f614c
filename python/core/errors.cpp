#include <exception>

#include <pybind11/pybind11.h>

#include "core/convert.h"
#include "headrace/error.h"

namespace headrace::python {
namespace {

PyObject* exception_type(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
    case ErrorCode::kUsage:
    case ErrorCode::kCorrupt:
      return PyExc_ValueError;
    case ErrorCode::kNotFound:
      return PyExc_FileNotFoundError;
    case ErrorCode::kUnsupported:
      return PyExc_NotImplementedError;  // a RuntimeError
    case ErrorCode::kIo:
      return PyExc_OSError;
    case ErrorCode::kOutOfMemory:
      return PyExc_MemoryError;
    case ErrorCode::kDevice:
    case ErrorCode::kInternal:
      return PyExc_RuntimeError;
  }
  return PyExc_RuntimeError;
}

}  // namespace

void register_errors() {
  py::register_exception_translator([](std::exception_ptr thrown) {
    try {
      if (thrown) std::rethrow_exception(thrown);
    } catch (const Error& error) {
      PyErr_SetString(exception_type(error.code()), error.what());
    }
  });
}

}  // namespace headrace::python
