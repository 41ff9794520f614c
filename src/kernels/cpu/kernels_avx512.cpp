// Compiled with this instruction set's flags (src/kernels/kernels.cmake); nothing here may run
// before detect_cpu_isa() has found it.
#include "kernels/cpu/cpu_kernels.h"

#if defined(__AVX512BW__)

#include "kernels/cpu/make_kernels.h"
#include "kernels/cpu/vector_avx512.h"

namespace headrace::cpu {

const CpuKernels* avx512_kernels() { return &MakeKernels<Avx512>::kTable; }

}  // namespace headrace::cpu

#else  // another architecture

namespace headrace::cpu {

const CpuKernels* avx512_kernels() { return nullptr; }

}  // namespace headrace::cpu

#endif
