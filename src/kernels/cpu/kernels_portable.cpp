#include "kernels/cpu/make_kernels.h"
#include "kernels/cpu/vector_portable.h"

namespace headrace::cpu {

const CpuKernels* portable_kernels() { return &MakeKernels<Portable>::kTable; }

}  // namespace headrace::cpu
