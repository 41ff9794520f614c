#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "base/error.h"
#include "kernels/cpu/cpu_backend.h"

namespace headrace {
namespace {

#if defined(__x86_64__)
/// Conversions between float and float16: a feature that older compilers' builtin does not know.
bool has_f16c() {
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}
#endif

bool processor_has(CpuIsa isa) {
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
  switch (isa) {
    case CpuIsa::kAvx512:
      return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    case CpuIsa::kAvx2:
      return avx2;
    case CpuIsa::kPortable:
      return true;
  }
#endif
  return isa == CpuIsa::kPortable;
}

bool processor_has_vbmi() {
#if defined(__x86_64__)
  return processor_has(CpuIsa::kAvx512) && __builtin_cpu_supports("avx512vbmi") &&
         __builtin_cpu_supports("avx512vbmi2");
#else
  return false;
#endif
}

}  // namespace

const cpu::CpuKernels* cpu::kernels_for(CpuIsa isa) {
  if (!processor_has(isa)) return nullptr;
  switch (isa) {
    case CpuIsa::kAvx512:
      return avx512_kernels();
    case CpuIsa::kAvx2:
      return avx2_kernels();
    case CpuIsa::kPortable:
      return portable_kernels();
  }
  return nullptr;
}

std::vector<const cpu::CodedKernels*> cpu::coded_kernels_for(CpuIsa isa) {
  std::vector<const CodedKernels*> all;
  const auto add = [&](bool fits, const CodedKernels* kernels) {
    if (fits && kernels != nullptr) all.push_back(kernels);
  };
  add(isa >= CpuIsa::kAvx512 && processor_has_vbmi(), vbmi_coded_kernels());
  add(isa >= CpuIsa::kAvx2 && processor_has(CpuIsa::kAvx2), avx2_coded_kernels());
  add(true, portable_coded_kernels());
  return all;
}

CpuIsa detect_cpu_isa() {
  for (const CpuIsa isa : {CpuIsa::kAvx512, CpuIsa::kAvx2}) {
    if (cpu::kernels_for(isa) != nullptr) return isa;
  }
  return CpuIsa::kPortable;
}

const cpu::CpuKernels& cpu::best_kernels() { return *kernels_for(detect_cpu_isa()); }

const char* cpu_isa_name(CpuIsa isa) {
  switch (isa) {
    case CpuIsa::kAvx512:
      return "avx512";
    case CpuIsa::kAvx2:
      return "avx2";
    case CpuIsa::kPortable:
      return "portable";
  }
  return "unknown";
}

std::unique_ptr<Backend> make_cpu_backend(ThreadPool& pool, CpuIsa isa) {
  const cpu::CpuKernels* kernels = cpu::kernels_for(isa);
  if (kernels == nullptr) {
    fail(ErrorCode::kDevice, "[cpu] this processor has no {}: use {}", cpu_isa_name(isa),
         cpu_isa_name(detect_cpu_isa()));
  }
  return std::make_unique<CpuBackend>(pool, isa, *kernels, *cpu::coded_kernels_for(isa).front());
}

}  // namespace headrace
