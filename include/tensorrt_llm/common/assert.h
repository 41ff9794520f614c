#pragma once

#include "tensorrt_llm/common/tllmException.h"

#define TLLM_CHECK(condition)                                                    \
  do {                                                                           \
    if (!static_cast<bool>(condition)) {                                         \
      ::tensorrt_llm::common::throwRuntimeError(__FILE__, __LINE__, #condition); \
    }                                                                            \
  } while (false)

/// TLLM_CHECK_WITH_INFO(condition, format, values...).
#define TLLM_CHECK_WITH_INFO(condition, ...)                                                  \
  do {                                                                                        \
    if (!static_cast<bool>(condition)) {                                                      \
      ::tensorrt_llm::common::throwRuntimeError(__FILE__, __LINE__,                           \
                                                ::tensorrt_llm::common::fmtstr(__VA_ARGS__)); \
    }                                                                                         \
  } while (false)
