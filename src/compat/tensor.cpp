#include "tensorrt_llm/executor/tensor.h"

#include <cstring>
#include <exception>
#include <string>
#include <utility>
#include <vector>

#include <fmt/ranges.h>

#include "base/error.h"

namespace tensorrt_llm::executor {
namespace {

using headrace::ErrorCode;
using headrace::fail;

size_t element_bytes(DataType type) {
  switch (type) {
    case DataType::kBOOL:
    case DataType::kUINT8:
    case DataType::kINT8:
    case DataType::kFP8:
      return 1;
    case DataType::kBF16:
    case DataType::kFP16:
      return 2;
    case DataType::kINT32:
    case DataType::kFP32:
      return 4;
    case DataType::kINT64:
      return 8;
    case DataType::kUNKNOWN:
      break;
  }
  fail(ErrorCode::kInvalidArgument, "[tensor] the data type is unknown: use one that is known");
}

[[noreturn]] void fail_too_large() {
  fail(ErrorCode::kInvalidArgument, "[tensor] more bytes than can be counted: use a smaller shape");
}

size_t element_count(Shape const& shape) {
  size_t count = 1;
  for (Shape::DimType64 const dim : shape) {
    if (dim < 0) {
      fail(ErrorCode::kInvalidArgument, "[tensor] a dimension of {}: sizes are 0 or more", dim);
    }
    if (__builtin_mul_overflow(count, static_cast<size_t>(dim), &count)) fail_too_large();
  }
  return count;
}

std::string text_of(Shape const& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

}  // namespace

struct Tensor::Impl {
  DataType type = DataType::kUNKNOWN;
  Shape shape = {};
  std::vector<std::byte> owned = {};
  void* wrapped = nullptr;  // null: the memory is `owned`

  size_t size_bytes() const {
    size_t bytes = 0;
    if (__builtin_mul_overflow(element_count(shape), element_bytes(type), &bytes)) fail_too_large();
    return bytes;
  }
  void* data() { return wrapped != nullptr ? wrapped : owned.data(); }
};

Tensor Tensor::cpu(DataType dataType, Shape shape) {
  auto impl = std::make_shared<Impl>(Impl{.type = dataType, .shape = std::move(shape)});
  size_t const bytes = impl->size_bytes();
  try {
    impl->owned.resize(bytes);
  } catch (std::exception const&) {  // bad_alloc, or length_error
    fail(ErrorCode::kOutOfMemory, "[tensor] {} bytes do not fit: use a smaller shape", bytes);
  }
  return Tensor(std::move(impl));
}

Tensor Tensor::gpu(DataType /*dataType*/, CudaStreamPtr /*stream*/, Shape /*shape*/) {
  fail(ErrorCode::kUnsupported, "[tensor] there are no tensors in GPU memory: use Tensor::cpu");
}

Tensor Tensor::of(DataType dataType, void* data, Shape shape) {
  auto impl = std::make_shared<Impl>(
      Impl{.type = dataType, .shape = std::move(shape), .owned = {}, .wrapped = data});
  size_t const bytes = impl->size_bytes();
  if (data == nullptr && bytes > 0) {
    fail(ErrorCode::kInvalidArgument,
         "[tensor] of {} bytes at a null pointer: give memory, or a shape without elements", bytes);
  }
  return Tensor(std::move(impl));
}

Tensor::Impl& Tensor::impl() const {
  if (impl_ == nullptr) {
    fail(ErrorCode::kInvalidArgument, "[tensor] this one is null: make one with Tensor::cpu");
  }
  return *impl_;
}

Tensor Tensor::copyToCpu(CudaStreamPtr /*stream*/) const {
  Tensor copy = cpu(getDataType(), getShape());
  copy.setFrom(*this);
  return copy;
}

void* Tensor::getData() { return impl().data(); }
void const* Tensor::getData() const { return impl().data(); }
DataType Tensor::getDataType() const { return impl().type; }
MemoryType Tensor::getMemoryType() const {
  impl();
  return MemoryType::kCPU;
}
Shape Tensor::getShape() const { return impl().shape; }
size_t Tensor::getSize() const { return element_count(impl().shape); }
size_t Tensor::getSizeInBytes() const { return impl().size_bytes(); }

void Tensor::setZero(CudaStreamPtr /*stream*/) {
  if (getSizeInBytes() > 0) std::memset(getData(), 0, getSizeInBytes());
}

void Tensor::setFrom(Tensor const& other, CudaStreamPtr /*stream*/) {
  Impl& to = impl();
  Impl& from = other.impl();
  if (&to == &from) return;
  if (to.type != from.type) {
    fail(ErrorCode::kInvalidArgument, "[tensor] setFrom: the other tensor has another data type");
  }
  size_t const bytes = from.size_bytes();
  if (to.wrapped == nullptr) {
    to.owned.resize(bytes);
  } else if (to.shape != from.shape) {
    fail(ErrorCode::kInvalidArgument,
         "[tensor] setFrom: shape {} into wrapped memory of shape {}: give it that shape",
         text_of(from.shape), text_of(to.shape));
  }
  to.shape = from.shape;
  if (bytes > 0) std::memcpy(to.data(), from.data(), bytes);
}

void Tensor::detach() noexcept {
  if (impl_ == nullptr || impl_.use_count() == 1 || impl_->wrapped == nullptr) return;
  try {
    auto const* const begin = static_cast<std::byte const*>(impl_->wrapped);
    impl_->owned.assign(begin, begin + impl_->size_bytes());
  } catch (std::exception const&) {
    impl_->shape = Shape{0};
  }
  impl_->wrapped = nullptr;
}

}  // namespace tensorrt_llm::executor
