#pragma once

#include <utility>

#include "tensorrt_llm/executor/tensor.h"

namespace headrace::compat {

/// Lends memory to whoever gets the handle, while this object is there. Handles that are kept
/// longer have a copy of the last values. Confined to one thread.
class LentTensor {
 public:
  LentTensor(float* values, tensorrt_llm::executor::Shape shape)
      : handle_(tensorrt_llm::executor::Tensor::of(values, std::move(shape))) {}
  ~LentTensor() { handle_.detach(); }
  LentTensor(LentTensor&&) = default;
  LentTensor& operator=(LentTensor&&) = delete;

  tensorrt_llm::executor::Tensor handle() const { return handle_; }

 private:
  tensorrt_llm::executor::Tensor handle_;
};

}  // namespace headrace::compat
