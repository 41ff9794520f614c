#include "codec/row_code.h"
#include "kernels/cpu/coded_kernels.h"

namespace headrace::cpu {
namespace {

void decode(const RowLayout& layout, const std::byte* row, std::byte* out) {
  decode_row(layout, row,
             {reinterpret_cast<uint16_t*>(out), static_cast<size_t>(decoded_elements(layout.k))});
}

constexpr CodedKernels kTable = {.decode = decode, .reorder_x = nullptr, .multiply_few = nullptr};

}  // namespace

const CodedKernels* portable_coded_kernels() { return &kTable; }

}  // namespace headrace::cpu
