#include "codec/codec_id.h"

namespace headrace {

const char* codec_name(CodecId codec) {
  switch (codec) {
    case CodecId::kRaw:
      return "raw";
    case CodecId::kE3:
      return "e3";
    case CodecId::kE4:
      return "e4";
  }
  return nullptr;
}

std::optional<CodecId> codec_of_name(std::string_view name) {
  for (const CodecId codec : {CodecId::kRaw, CodecId::kE3, CodecId::kE4}) {
    if (name == codec_name(codec)) return codec;
  }
  return std::nullopt;
}

bool codec_fits(CodecId codec, DType dtype) {
  switch (codec) {
    case CodecId::kRaw:
      return true;
    case CodecId::kE3:
      return dtype == DType::kBFloat16 || dtype == DType::kFloat16;
    case CodecId::kE4:
      return dtype == DType::kBFloat16;
  }
  return false;
}

}  // namespace headrace
