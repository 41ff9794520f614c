#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <iosfwd>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace tensorrt_llm::runtime {
/// Never defined: no client needs to look into one, and there is none on the CPU.
class CudaStream;
}  // namespace tensorrt_llm::runtime

namespace tensorrt_llm::executor {

class Request;
class Tensor;

using SizeType32 = std::int32_t;
using SizeType = SizeType32;  // its name up to v0.10
using FloatType = float;
using TokenIdType = std::int32_t;
using IdType = std::uint64_t;
using IterationType = std::uint64_t;
using RandomSeedType = std::uint64_t;
using PriorityType = float;
using VecTokens = std::vector<TokenIdType>;
using BeamTokens = std::vector<VecTokens>;
using VecTokenExtraIds = std::vector<IdType>;
using VecLogProbs = std::vector<FloatType>;
using MedusaChoices = std::vector<std::vector<SizeType32>>;
using TensorPtr = std::shared_ptr<Tensor>;
using StreamPtr = std::shared_ptr<runtime::CudaStream>;
using BufferView = std::basic_string_view<std::uint8_t>;

/// Changes a request's logits (fp32, [1, beams, vocab_size], in host memory) before a token is
/// chosen. Called on the executor's thread; an exception ends the request with an error. The stream
/// is null: the tensor is ready. It is the request's logits until the call returns: a handle that
/// is kept has a copy of the values from then on, but no pointer from getData() may be used.
using LogitsPostProcessor = std::function<void(IdType, Tensor&, BeamTokens const&, StreamPtr const&,
                                               std::optional<IdType>)>;
using LogitsPostProcessorMap = std::unordered_map<std::string, LogitsPostProcessor>;
/// The same for all requests of a pass that ask for it.
using LogitsPostProcessorBatched =
    std::function<void(std::vector<IdType> const&, std::vector<Tensor>&,
                       std::vector<std::reference_wrapper<BeamTokens const>> const&,
                       StreamPtr const&, std::vector<std::optional<IdType>> const&)>;

enum class DataType { kBOOL, kUINT8, kINT8, kINT32, kINT64, kBF16, kFP8, kFP16, kFP32, kUNKNOWN };

enum class MemoryType { kCPU, kCPU_PINNED, kCPU_PINNEDPOOL, kGPU, kUVM, kUNKNOWN };

/// The DataType of a C++ type.
template <typename T>
struct TypeTraits {};
template <>
struct TypeTraits<float> {
  static constexpr auto value = DataType::kFP32;
};
template <>
struct TypeTraits<std::int8_t> {
  static constexpr auto value = DataType::kINT8;
};
template <>
struct TypeTraits<std::uint8_t> {
  static constexpr auto value = DataType::kUINT8;
};
template <>
struct TypeTraits<std::int32_t> {
  static constexpr auto value = DataType::kINT32;
};
template <>
struct TypeTraits<std::int64_t> {
  static constexpr auto value = DataType::kINT64;
};
template <>
struct TypeTraits<bool> {
  static constexpr auto value = DataType::kBOOL;
};
template <typename T>
struct TypeTraits<T*> {
  static constexpr auto value = DataType::kINT64;
};

enum class ModelType {
  kDECODER_ONLY = 0,
  kENCODER_ONLY = 1,     // not supported here
  kENCODER_DECODER = 2,  // not supported here
};

enum class RequestType {
  REQUEST_TYPE_CONTEXT_AND_GENERATION = 0,
  REQUEST_TYPE_CONTEXT_ONLY = 1,     // not supported here
  REQUEST_TYPE_GENERATION_ONLY = 2,  // not supported here
};

enum class BatchingType {
  kSTATIC = 0,  // accepted; requests are batched in flight all the same
  kINFLIGHT = 1,
};

/// Which waiting requests are admitted while others run.
enum class CapacitySchedulerPolicy {
  kMAX_UTILIZATION = 0,      // those whose next step fits; the last may be computed again later
  kGUARANTEED_NO_EVICT = 1,  // those that are sure to find room until their end
};
std::ostream& operator<<(std::ostream& os, CapacitySchedulerPolicy policy);

/// Accepted; prompts are cut in the order in which they came.
enum class ContextChunkingPolicy { kFIRST_COME_FIRST_SERVED = 0, kEQUAL_PROGRESS = 1 };
std::ostream& operator<<(std::ostream& os, ContextChunkingPolicy policy);

enum class CommunicationType { kMPI = 0 };

/// Accepted; everything runs in this process.
enum class CommunicationMode { kLEADER, kORCHESTRATOR };

/// Why a sequence has ended.
enum class FinishReason {
  kNOT_FINISHED = 0,
  kEND_ID = 1,
  kSTOP_WORDS = 2,
  kLENGTH = 3,
  kTIMED_OUT = 4,
  kCANCELLED = 5,
};

}  // namespace tensorrt_llm::executor
