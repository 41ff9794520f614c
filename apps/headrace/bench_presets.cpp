#include "headrace/bench_presets.h"

#include <algorithm>
#include <array>

#include "base/error.h"

namespace headrace::app {
namespace {

struct Shape {
  const char* name;
  int64_t layers;
  int64_t heads;
  int64_t kv_heads;
  int64_t hidden;
  int64_t intermediate;
  int64_t positions;
  int64_t max_batch;
};

constexpr int64_t kVocabulary = 32000;
constexpr int64_t kMaxInput = 512;
constexpr int64_t kMaxOutput = 200;

/// Touvron et al. 2023, tables 2 ("LLaMA") and 1 ("Llama 2"). llama_15m is ours, for quick trials.
constexpr std::array<Shape, 5> kShapes = {{
    {"llama_7b", 32, 32, 32, 4096, 11008, 2048, 128},
    {"llama_13b", 40, 40, 40, 5120, 13824, 2048, 128},
    {"llama_30b", 60, 52, 52, 6656, 17920, 2048, 64},
    {"llama_70b", 80, 64, 8, 8192, 28672, 4096, 64},
    {"llama_15m", 6, 6, 6, 288, 768, 1024, 128},
}};

struct Family {
  std::string_view prefix;  // of its presets' names
  std::string_view name;
};

/// Families whose presets upstream knew; where one prefix begins another, the longer comes first.
constexpr std::array<Family, 26> kLaterFamilies = {{
    {"baichuan", "Baichuan"},
    {"bart", "BART"},
    {"bert", "BERT"},
    {"bloom", "BLOOM"},
    {"chatglm", "ChatGLM"},
    {"falcon", "Falcon"},
    {"flan", "T5"},
    {"gemma", "Gemma"},
    {"glm", "GLM"},
    {"gptj", "GPT-J"},
    {"gptneox", "GPT-NeoX"},
    {"gpt", "GPT"},
    {"internlm", "InternLM"},
    {"mamba", "Mamba"},
    {"mbart", "BART"},
    {"mistral", "Mistral"},
    {"mixtral", "Mixtral"},
    {"opt", "OPT"},
    {"phi", "Phi"},
    {"qwen", "Qwen"},
    {"recurrentgemma", "RecurrentGemma"},
    {"roberta", "RoBERTa"},
    {"santacoder", "SantaCoder"},
    {"starcoder", "StarCoder"},
    {"t5", "T5"},
    {"whisper", "Whisper"},
}};

[[noreturn]] void fail_unknown(std::string_view name) {
  for (const Family& family : kLaterFamilies) {
    if (!name.starts_with(family.prefix)) continue;
    fail(ErrorCode::kUnsupported,
         "[bench] preset '{}' is of the {} family, which is not there yet: use {}", name,
         family.name, bench_preset_names());
  }
  fail(ErrorCode::kUnsupported, "[bench] there is no preset '{}': use {}", name,
       bench_preset_names());
}

}  // namespace

std::string bench_preset_names() {
  std::string names;
  for (const Shape& shape : kShapes) names += (names.empty() ? "" : ", ") + std::string(shape.name);
  return names;
}

BenchPreset find_bench_preset(std::string_view name, DType dtype) {
  const auto* found = std::find_if(kShapes.begin(), kShapes.end(),
                                   [&](const Shape& shape) { return shape.name == name; });
  if (found == kShapes.end()) fail_unknown(name);
  BenchPreset preset{.name = std::string(name), .model = {}, .build = {}};
  preset.model = {.dtype = dtype,
                  .vocab_size = kVocabulary,
                  .max_position_embeddings = found->positions,
                  .hidden_size = found->hidden,
                  .num_hidden_layers = found->layers,
                  .num_attention_heads = found->heads,
                  .num_key_value_heads = found->kv_heads,
                  .head_size = found->hidden / found->heads,
                  .intermediate_size = found->intermediate,
                  .rotary_scaling = {}};
  preset.build.max_batch_size = found->max_batch;
  preset.build.max_input_len = kMaxInput;
  preset.build.max_seq_len = kMaxInput + kMaxOutput;
  preset.build.weight_streaming = true;
  return preset;
}

}  // namespace headrace::app
