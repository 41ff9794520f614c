#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "tensor/dtype.h"

namespace headrace {

/// How a tile's rows are stored. The numbers are stored in engine files: never renumber.
enum class CodecId : uint8_t {
  kRaw = 0,  ///< the elements themselves
  kE3 = 1,   ///< exponents as 3-bit codes (bfloat16 and float16)
  kE4 = 2,   ///< exponents as 4-bit codes (bfloat16)
};

/// "raw", "e3", "e4"; null for a number that is no codec.
const char* codec_name(CodecId codec);

/// The codec of that name; nothing for a name that none has.
std::optional<CodecId> codec_of_name(std::string_view name);

/// Whether the codec can hold elements of `dtype`.
bool codec_fits(CodecId codec, DType dtype);

}  // namespace headrace
