# Looks for nvcc: in .venv, where `scripts/install-deps --cuda` puts it, on PATH, and where NVIDIA's
# packages put it. Sets HEADRACE_HAS_NVCC and, for enable_language(CUDA), CMAKE_CUDA_COMPILER.
file(GLOB venv_cuda ${CMAKE_SOURCE_DIR}/.venv/lib/python3*/site-packages/nvidia/cu13)
find_program(HEADRACE_NVCC nvcc PATHS ${venv_cuda}/bin NO_DEFAULT_PATH)
find_program(HEADRACE_NVCC nvcc HINTS ENV CUDACXX PATHS /usr/local/cuda/bin)
if(HEADRACE_NVCC)
  set(HEADRACE_HAS_NVCC ON)
  set(CMAKE_CUDA_COMPILER ${HEADRACE_NVCC})
else()
  set(HEADRACE_HAS_NVCC OFF)
endif()
