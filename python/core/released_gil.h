#pragma once

#include <pybind11/pybind11.h>
#include <unistd.h>

namespace headrace::python {

/// Lets go of the GIL for its lifetime. When the interpreter has begun to end by the end of that,
/// the thread stays here for ever, as it does in Python 3.14: before, Python ends a thread that
/// asks for the GIL then, through frames that cannot be left that way.
class ReleasedGil {
 public:
  ReleasedGil() : ends_python_(is_finalizing()), state_(PyEval_SaveThread()) {}
  ~ReleasedGil() {
    while (!ends_python_ && is_finalizing()) pause();
    PyEval_RestoreThread(state_);
  }
  ReleasedGil(const ReleasedGil&) = delete;
  ReleasedGil& operator=(const ReleasedGil&) = delete;

 private:
  static bool is_finalizing() {
#if PY_VERSION_HEX >= 0x030d0000
    return Py_IsFinalizing() != 0;
#else
    return _Py_IsFinalizing() != 0;
#endif
  }

  const bool ends_python_;  // this is the thread that does, the only one left
  PyThreadState* const state_;
};

}  // namespace headrace::python
