#include "tensor/dtype.h"

#include "base/error.h"

namespace headrace {

std::string_view dtype_name(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return "float32";
    case DType::kFloat16:
      return "float16";
    case DType::kBFloat16:
      return "bfloat16";
  }
  HR_CHECK(false);
}

DType parse_dtype(std::string_view name, std::string_view what) {
  if (name == "float32" || name == "fp32") return DType::kFloat32;
  if (name == "float16" || name == "fp16") return DType::kFloat16;
  if (name == "bfloat16" || name == "bf16") return DType::kBFloat16;
  fail(ErrorCode::kUnsupported, "[{}] '{}' is not a data type: use float32, float16 or bfloat16",
       what, name);
}

}  // namespace headrace
