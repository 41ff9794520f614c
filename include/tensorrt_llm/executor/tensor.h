#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include "tensorrt_llm/common/assert.h"
#include "tensorrt_llm/executor/types.h"

namespace headrace::compat {
class LentTensor;
}  // namespace headrace::compat

namespace tensorrt_llm::executor {

/// The sizes of a tensor's dimensions. A value; an empty one is that of one element.
class Shape {
 public:
  using DimType64 = std::int64_t;
  using value_type = DimType64;
  using size_type = std::size_t;

  Shape() = default;
  Shape(DimType64 const* data, size_type size) : dims_(data, data + size) {}
  Shape(std::initializer_list<DimType64> dims) : dims_(dims) {}

  DimType64 const* data() const { return dims_.data(); }
  DimType64 const* begin() const { return dims_.data(); }
  DimType64 const* end() const { return dims_.data() + dims_.size(); }
  size_type size() const { return dims_.size(); }
  bool empty() const { return dims_.empty(); }
  DimType64 operator[](size_type index) const { return dims_[index]; }
  friend bool operator==(Shape const& a, Shape const& b) { return a.dims_ == b.dims_; }
  friend bool operator!=(Shape const& a, Shape const& b) { return !(a == b); }

 private:
  std::vector<DimType64> dims_;
};

/// A handle on elements in host memory, which copies of the handle share. All places that upstream
/// tells apart are ordinary host memory here (gpu() alone throws), so that streams mean nothing.
/// Confined to one thread. A null tensor (no elements) answers only operator bool and comparison;
/// whatever else is asked of it throws.
class Tensor {
 public:
  using CudaStreamPtr = std::shared_ptr<runtime::CudaStream>;

  /// Elements that are not initialised to anything in particular.
  static Tensor cpu(DataType dataType, Shape shape = {});
  static Tensor pinned(DataType dataType, Shape shape = {}) { return cpu(dataType, shape); }
  static Tensor pooledPinned(DataType dataType, Shape shape = {}) { return cpu(dataType, shape); }
  static Tensor managed(DataType dataType, Shape shape = {}) { return cpu(dataType, shape); }
  /// Throws headrace::Error{kUnsupported}: logits and the like come and go through host memory.
  static Tensor gpu(DataType dataType, CudaStreamPtr stream, Shape shape = {});

  template <typename T>
  static Tensor cpu(Shape shape = {}) {
    return cpu(dataTypeOf<T>(), shape);
  }
  template <typename T>
  static Tensor pinned(Shape shape = {}) {
    return cpu(dataTypeOf<T>(), shape);
  }
  template <typename T>
  static Tensor pooledPinned(Shape shape = {}) {
    return cpu(dataTypeOf<T>(), shape);
  }
  template <typename T>
  static Tensor managed(Shape shape = {}) {
    return cpu(dataTypeOf<T>(), shape);
  }

  /// Wraps memory of the caller's, which must outlive all handles.
  static Tensor of(DataType dataType, void* data, Shape shape);
  template <typename T>
  static Tensor of(T* data, Shape shape) {
    return of(dataTypeOf<T>(), static_cast<void*>(data), shape);
  }
  template <typename T>
  static Tensor of(T& container) {
    return of(container.data(), Shape{static_cast<Shape::DimType64>(container.size())});
  }

  Tensor() noexcept = default;

  [[nodiscard]] Tensor copyToCpu(CudaStreamPtr stream = nullptr) const;
  [[nodiscard]] Tensor copyToPinned(CudaStreamPtr = nullptr) const { return copyToCpu(); }
  [[nodiscard]] Tensor copyToPooledPinned(CudaStreamPtr = nullptr) const { return copyToCpu(); }
  [[nodiscard]] Tensor copyToManaged(CudaStreamPtr = nullptr) const { return copyToCpu(); }

  [[nodiscard]] void* getData();
  [[nodiscard]] void const* getData() const;
  [[nodiscard]] DataType getDataType() const;
  [[nodiscard]] MemoryType getMemoryType() const;
  [[nodiscard]] Shape getShape() const;
  [[nodiscard]] std::size_t getSize() const;  // elements
  [[nodiscard]] std::size_t getSizeInBytes() const;

  void setZero(CudaStreamPtr stream = nullptr);
  /// Takes over shape and elements of `other`, whose type must be the same. A tensor that wraps
  /// memory keeps its shape: another one throws.
  void setFrom(Tensor const& other, CudaStreamPtr stream = nullptr);

  explicit operator bool() const { return impl_ != nullptr; }
  bool operator==(Tensor const& other) const { return impl_ == other.impl_; }
  bool operator!=(Tensor const& other) const { return impl_ != other.impl_; }

 private:
  struct Impl;
  explicit Tensor(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
  Impl& impl() const;
  friend class headrace::compat::LentTensor;
  /// Before memory that it wraps goes: if other handles share it, they get a copy of the elements,
  /// or if that does not fit, none (a first dimension of 0).
  void detach() noexcept;

  template <typename T>
  static constexpr DataType dataTypeOf() {
    return TypeTraits<std::remove_cv_t<T>>::value;
  }

  std::shared_ptr<Impl> impl_;  // shared: handles are copied, elements are not
};

}  // namespace tensorrt_llm::executor
