# libheadrace_cuda.so, which the program loads at run time (src/kernels/cuda_library.cpp). It links
# the CUDA runtime statically and finds cuBLASLt on the machine that it runs on.
set(HEADRACE_CUDA_ARCHITECTURES "80-real;86-real;89-real;90" CACHE STRING
    "GPU architectures; one, such as 90-real, builds faster")
set(CMAKE_CUDA_ARCHITECTURES ${HEADRACE_CUDA_ARCHITECTURES})
enable_language(CUDA)
find_package(CUDAToolkit 13 REQUIRED)

set(directory ${CMAKE_SOURCE_DIR}/src/kernels/cuda)
file(GLOB cuda_kernels CONFIGURE_DEPENDS ${directory}/*.cu)
file(GLOB cuda_sources CONFIGURE_DEPENDS ${directory}/*.cpp)

# CMake 3.25 knows no C++20 for CUDA. -fmad=false: a product and a sum are fused only where the
# source says fma (docs/numerics.md).
function(add_kernels name)
  add_library(${name} OBJECT ${ARGN})
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR}/src)
  target_compile_options(${name} PRIVATE -std=c++20 -fmad=false -Werror=all-warnings
                                         "SHELL:-Xcompiler -Wall,-Wextra")
  set_target_properties(${name} PROPERTIES CUDA_RUNTIME_LIBRARY Static)
  set_property(TARGET ${name} PROPERTY CXX_STANDARD)  # CUDA's would follow it
endfunction()

# Warp groups are in no architecture but this one; other devices have other kernels.
set(sm90a_kernels ${cuda_kernels})
list(FILTER sm90a_kernels INCLUDE REGEX "_sm90a\\.cu$")
list(FILTER cuda_kernels EXCLUDE REGEX "_sm90a\\.cu$")
add_kernels(headrace_cuda_kernels ${cuda_kernels})
add_kernels(headrace_cuda_sm90a_kernels ${sm90a_kernels})
set_property(TARGET headrace_cuda_sm90a_kernels PROPERTY CUDA_ARCHITECTURES 90a-real)

add_library(headrace_cuda SHARED ${cuda_sources} $<TARGET_OBJECTS:headrace_cuda_kernels>
                                 $<TARGET_OBJECTS:headrace_cuda_sm90a_kernels>)
target_link_libraries(headrace_cuda PRIVATE headrace_options headrace_base headrace_tensor
                                            headrace_codec headrace_device headrace_kv
                                            CUDA::cudart_static CUDA::cublasLt)
set_target_properties(headrace_cuda PROPERTIES CUDA_RUNTIME_LIBRARY Static BUILD_RPATH
                                               "$ORIGIN;/usr/local/cuda/lib64" LINKER_LANGUAGE CXX
                                               LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
