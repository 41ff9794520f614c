# Compile flags of the files that hold one instruction set's kernels. Everything else in the room runs
# on any processor.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(directory ${CMAKE_CURRENT_SOURCE_DIR}/kernels/cpu)
  set(avx512_flags -mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-mavx2;-mfma;-mf16c)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # g++ 12's own header of AVX-512 intrinsics begins some of them with an undefined register.
    list(APPEND avx512_flags -Wno-maybe-uninitialized -Wno-uninitialized)
  endif()
  set_source_files_properties(${directory}/kernels_avx512.cpp PROPERTIES COMPILE_OPTIONS
                                                                         "${avx512_flags}")
  set_source_files_properties(
    ${directory}/coded_vbmi.cpp PROPERTIES COMPILE_OPTIONS
                                           "${avx512_flags};-mavx512vbmi;-mavx512vbmi2;-mpopcnt")
  set_source_files_properties(${directory}/coded_avx2.cpp PROPERTIES COMPILE_OPTIONS
                                                                     "-mavx2;-mpopcnt")
  set_source_files_properties(${directory}/kernels_avx2.cpp PROPERTIES COMPILE_OPTIONS
                                                                       "-mavx2;-mfma;-mf16c")
endif()
