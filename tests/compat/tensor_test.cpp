#include "tensorrt_llm/executor/tensor.h"

#include <vector>

#include "compat/lent_tensor.h"
#include "tests/support/error_matchers.h"

namespace headrace {
namespace {

using tensorrt_llm::executor::DataType;
using tensorrt_llm::executor::MemoryType;
using tensorrt_llm::executor::Shape;
using tensorrt_llm::executor::Tensor;
using testing::expect_error;

TEST(CompatTensor, KnowsItsSizes) {
  const Tensor tensor = Tensor::cpu<float>({2, 3});
  EXPECT_EQ(tensor.getShape(), (Shape{2, 3}));
  EXPECT_EQ(tensor.getShape()[1], 3);
  EXPECT_EQ(tensor.getSize(), 6U);
  EXPECT_EQ(tensor.getSizeInBytes(), 24U);
  EXPECT_EQ(tensor.getDataType(), DataType::kFP32);
  EXPECT_EQ(tensor.getMemoryType(), MemoryType::kCPU);
  EXPECT_EQ(Tensor::cpu(DataType::kBF16, {5}).getSizeInBytes(), 10U);
  EXPECT_EQ(Tensor::cpu<int64_t>({0, 4}).getSize(), 0U);
}

TEST(CompatTensor, CopiesOfAHandleShareElements) {
  Tensor tensor = Tensor::cpu<int32_t>({2});
  Tensor same = tensor;
  static_cast<int32_t*>(tensor.getData())[1] = 7;
  EXPECT_EQ(static_cast<int32_t*>(same.getData())[1], 7);
  EXPECT_TRUE(same == tensor);
  Tensor copy = tensor.copyToCpu();
  EXPECT_TRUE(copy != tensor);
  EXPECT_EQ(static_cast<int32_t*>(copy.getData())[1], 7);
}

TEST(CompatTensor, SetFromWritesIntoWrappedMemory) {
  std::vector<float> memory = {1, 2, 3, 4};
  Tensor wrapped = Tensor::of(memory);
  std::vector<float> other = {5, 6, 7, 8};
  wrapped.setFrom(Tensor::of(other));
  EXPECT_EQ(memory, other);
  for (const Shape& shape : {Shape{5}, Shape{3}, Shape{2, 2}}) {
    expect_error(ErrorCode::kInvalidArgument, "into wrapped memory of shape [4]",
                 [&] { wrapped.setFrom(Tensor::cpu<float>(shape)); });
  }
  EXPECT_EQ(memory, other);
  expect_error(ErrorCode::kInvalidArgument, "another data type",
               [&] { wrapped.setFrom(Tensor::cpu<int32_t>({1})); });
  wrapped.setZero();
  EXPECT_EQ(memory, std::vector<float>(4));
}

TEST(CompatTensor, SetFromGivesATensorThatOwnsItsMemoryAnyShape) {
  Tensor tensor = Tensor::cpu<float>({2});
  std::vector<float> other = {5, 6, 7};
  tensor.setFrom(Tensor::of(other));
  EXPECT_EQ(tensor.getShape(), (Shape{3}));
  EXPECT_EQ(static_cast<float*>(tensor.getData())[2], 7);
}

TEST(CompatTensor, HandlesThatOutliveLentMemoryHaveACopy) {
  std::vector<float> memory = {1, 2};
  Tensor kept;
  {
    const compat::LentTensor lent(memory.data(), {1, 2});
    kept = lent.handle();
    static_cast<float*>(kept.getData())[1] = 3;
  }
  EXPECT_EQ(memory, (std::vector<float>{1, 3}));
  memory = {0, 0};
  ASSERT_EQ(kept.getShape(), (Shape{1, 2}));
  EXPECT_NE(kept.getData(), memory.data());
  EXPECT_EQ(static_cast<float*>(kept.getData())[1], 3);
}

TEST(CompatTensor, SaysWhatItCannotDo) {
  EXPECT_FALSE(Tensor());
  expect_error(ErrorCode::kInvalidArgument, "null", [] { (void)Tensor().getShape(); });
  expect_error(ErrorCode::kInvalidArgument, "-1", [] { Tensor::cpu<float>({2, -1}); });
  expect_error(ErrorCode::kUnsupported, "use Tensor::cpu",
               [] { Tensor::gpu(DataType::kFP32, nullptr, {1}); });
}

}  // namespace
}  // namespace headrace
