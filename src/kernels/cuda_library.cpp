#include <array>
#include <filesystem>
#include <string>

#include <dlfcn.h>

#include "base/error.h"
#include "kernels/backend.h"

namespace headrace {
namespace {

constexpr const char* kLibrary = "libheadrace_cuda.so";
constexpr const char* kMakeBackend = "headrace_make_cuda_backend";
using MakeBackend = Backend* (*)(int index, char* reason, size_t reason_bytes);

/// The folder of the program or of the shared library (a Python module, say) that this is part of.
std::filesystem::path own_folder() {
  Dl_info self = {};
  if (dladdr(reinterpret_cast<const void*>(&own_folder), &self) != 0 && self.dli_fname != nullptr) {
    const std::filesystem::path path = self.dli_fname;
    if (path.is_absolute()) return path.parent_path();  // of a program it is what argv[0] says
  }
  std::error_code unreadable;
  return std::filesystem::read_symlink("/proc/self/exe", unreadable).parent_path();
}

void* open_library() {
  if (dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL) == nullptr) {
    fail(ErrorCode::kDevice,
         "[device] CUDA needs an NVIDIA driver, and there is none here (libcuda.so.1 is missing): "
         "use "
         "--device cpu");
  }
  const std::filesystem::path folder = own_folder();
  std::string reason;
  for (const auto& path :
       {folder / kLibrary, folder / ".." / "lib" / kLibrary, folder / ".." / "bin" / kLibrary}) {
    if (!std::filesystem::exists(path)) continue;
    // Never closed: exceptions and buffers of the library may outlive any owner.
    if (void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
    reason = dlerror();
  }
  if (reason.empty()) {
    fail(ErrorCode::kDevice,
         "[device] CUDA needs {}, which is not beside the program: build Headrace where nvcc is "
         "(scripts/install-deps "
         "--cuda), or use --device cpu",
         kLibrary);
  }
  fail(ErrorCode::kDevice, "[device] {} cannot be loaded ({}): use --device cpu", kLibrary, reason);
}

}  // namespace

std::unique_ptr<Backend> make_cuda_backend(int index) {
  void* const library = open_library();
  const auto make = reinterpret_cast<MakeBackend>(dlsym(library, kMakeBackend));
  if (make == nullptr) {
    fail(ErrorCode::kDevice, "[device] {} is of another version: build it again", kLibrary);
  }
  std::array<char, 256> reason = {};
  std::unique_ptr<Backend> backend(make(index, reason.data(), reason.size()));
  if (backend == nullptr) {
    fail(ErrorCode::kDevice, "[device] CUDA device {} cannot be used ({}): use --device cpu", index,
         reason.data());
  }
  return backend;
}

}  // namespace headrace
