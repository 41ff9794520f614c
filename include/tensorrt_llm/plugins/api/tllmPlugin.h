#pragma once

extern "C" {

/// Clients call this first. There are no plugins here: true, at once.
bool initTrtLlmPlugins(void* logger = nullptr, char const* libNamespace = "tensorrt_llm");
}
