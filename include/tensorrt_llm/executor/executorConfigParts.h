#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tensorrt_llm/executor/decodingMode.h"
#include "tensorrt_llm/executor/requestParts.h"
#include "tensorrt_llm/executor/types.h"

namespace tensorrt_llm::mpi {
/// Never defined: there is no MPI here.
class MpiComm;
}  // namespace tensorrt_llm::mpi

namespace tensorrt_llm::executor {

/// How waiting requests are admitted.
class SchedulerConfig {
 public:
  explicit SchedulerConfig(
      CapacitySchedulerPolicy policy = CapacitySchedulerPolicy::kGUARANTEED_NO_EVICT,
      std::optional<ContextChunkingPolicy> contextChunkingPolicy = std::nullopt)
      : capacitySchedulerPolicy_(policy), contextChunkingPolicy_(contextChunkingPolicy) {}

  bool operator==(SchedulerConfig const& other) const {
    return capacitySchedulerPolicy_ == other.capacitySchedulerPolicy_ &&
           contextChunkingPolicy_ == other.contextChunkingPolicy_;
  }
  [[nodiscard]] CapacitySchedulerPolicy getCapacitySchedulerPolicy() const {
    return capacitySchedulerPolicy_;
  }
  [[nodiscard]] std::optional<ContextChunkingPolicy> getContextChunkingPolicy() const {
    return contextChunkingPolicy_;
  }

 private:
  CapacitySchedulerPolicy capacitySchedulerPolicy_;
  std::optional<ContextChunkingPolicy> contextChunkingPolicy_;
};

class KvCacheConfig {
 public:
  explicit KvCacheConfig(
      bool enableBlockReuse = false, std::optional<SizeType32> const& maxTokens = std::nullopt,
      std::optional<std::vector<SizeType32>> const& maxAttentionWindowVec = std::nullopt,
      std::optional<SizeType32> const& sinkTokenLength = std::nullopt,
      std::optional<FloatType> const& freeGpuMemoryFraction = std::nullopt,
      std::optional<std::size_t> const& hostCacheSize = std::nullopt, bool onboardBlocks = true)
      : enableBlockReuse_(enableBlockReuse),
        maxTokens_(maxTokens),
        maxAttentionWindowVec_(maxAttentionWindowVec),
        sinkTokenLength_(sinkTokenLength),
        freeGpuMemoryFraction_(freeGpuMemoryFraction),
        hostCacheSize_(hostCacheSize),
        onboardBlocks_(onboardBlocks) {}

  [[nodiscard]] bool getEnableBlockReuse() const { return enableBlockReuse_; }
  [[nodiscard]] std::optional<SizeType32> getMaxTokens() const { return maxTokens_; }
  [[nodiscard]] std::optional<std::vector<SizeType32>> getMaxAttentionWindowVec() const {
    return maxAttentionWindowVec_;
  }
  [[nodiscard]] std::optional<SizeType32> getSinkTokenLength() const { return sinkTokenLength_; }
  [[nodiscard]] std::optional<FloatType> getFreeGpuMemoryFraction() const {
    return freeGpuMemoryFraction_;
  }
  [[nodiscard]] std::optional<std::size_t> getHostCacheSize() const { return hostCacheSize_; }
  [[nodiscard]] bool getOnboardBlocks() const { return onboardBlocks_; }

  void setEnableBlockReuse(bool value) { enableBlockReuse_ = value; }
  void setMaxTokens(SizeType32 value) { maxTokens_ = value; }
  /// Windows shorter than the longest sequence are not supported here.
  void setMaxAttentionWindowVec(std::vector<SizeType32> value) {
    maxAttentionWindowVec_ = std::move(value);
  }
  void setSinkTokenLength(SizeType32 value) { sinkTokenLength_ = value; }  // not supported here
  void setFreeGpuMemoryFraction(FloatType value) { freeGpuMemoryFraction_ = value; }
  void setHostCacheSize(std::size_t value) { hostCacheSize_ = value; }  // has no meaning here
  void setOnboardBlocks(bool value) { onboardBlocks_ = value; }         // has no meaning here

 private:
  bool enableBlockReuse_;
  std::optional<SizeType32> maxTokens_;
  std::optional<std::vector<SizeType32>> maxAttentionWindowVec_;
  std::optional<SizeType32> sinkTokenLength_;
  std::optional<FloatType> freeGpuMemoryFraction_;
  std::optional<std::size_t> hostCacheSize_;
  bool onboardBlocks_;
};

/// Kernel switches. They have no meaning here.
class ExtendedRuntimePerfKnobConfig {
 public:
  explicit ExtendedRuntimePerfKnobConfig(bool multiBlockMode = true,
                                         bool enableContextFMHAFP32Acc = false)
      : multiBlockMode_(multiBlockMode), enableContextFMHAFP32Acc_(enableContextFMHAFP32Acc) {}

  bool operator==(ExtendedRuntimePerfKnobConfig const& other) const {
    return multiBlockMode_ == other.multiBlockMode_ &&
           enableContextFMHAFP32Acc_ == other.enableContextFMHAFP32Acc_;
  }
  [[nodiscard]] bool getMultiBlockMode() const { return multiBlockMode_; }
  [[nodiscard]] bool getEnableContextFMHAFP32Acc() const { return enableContextFMHAFP32Acc_; }
  void setMultiBlockMode(bool value) { multiBlockMode_ = value; }
  void setEnableContextFMHAFP32Acc(bool value) { enableContextFMHAFP32Acc_ = value; }

 private:
  bool multiBlockMode_;
  bool enableContextFMHAFP32Acc_;
};

/// Tensors to dump. There are none to dump here: every name is warned about.
class DebugConfig {
  using StringVec = std::vector<std::string>;

 public:
  explicit DebugConfig(bool dumpInputTensors = false, bool dumpOutputTensors = false,
                       StringVec debugTensorNames = {})
      : dumpInputTensors_(dumpInputTensors),
        dumpOutputTensors_(dumpOutputTensors),
        debugTensorNames_(std::move(debugTensorNames)) {}

  bool operator==(DebugConfig const& other) const {
    return dumpInputTensors_ == other.dumpInputTensors_ &&
           dumpOutputTensors_ == other.dumpOutputTensors_ &&
           debugTensorNames_ == other.debugTensorNames_;
  }
  [[nodiscard]] bool getDumpInputTensors() const { return dumpInputTensors_; }
  [[nodiscard]] bool getDumpOutputTensors() const { return dumpOutputTensors_; }
  [[nodiscard]] StringVec const& getDebugTensorNames() const { return debugTensorNames_; }
  void setDumpInputTensors(bool value) { dumpInputTensors_ = value; }
  void setDumpOutputTensors(bool value) { dumpOutputTensors_ = value; }
  void setDumpOuputTensors(bool value) { dumpOutputTensors_ = value; }  // upstream's spelling
  void setDebugTensorNames(StringVec const& value) { debugTensorNames_ = value; }

 private:
  bool dumpInputTensors_;
  bool dumpOutputTensors_;
  StringVec debugTensorNames_;
};

/// Accepted: there are no workers to start.
class OrchestratorConfig {
 public:
  explicit OrchestratorConfig(bool isOrchestrator = true, std::string workerExecutablePath = "",
                              std::shared_ptr<mpi::MpiComm> orchLeaderComm = nullptr,
                              bool spawnProcesses = true)
      : isOrchestrator_(isOrchestrator),
        workerExecutablePath_(std::move(workerExecutablePath)),
        orchLeaderComm_(std::move(orchLeaderComm)),
        spawnProcesses_(spawnProcesses) {}

  [[nodiscard]] bool getIsOrchestrator() const { return isOrchestrator_; }
  [[nodiscard]] std::string getWorkerExecutablePath() const { return workerExecutablePath_; }
  [[nodiscard]] std::shared_ptr<mpi::MpiComm> getOrchLeaderComm() const { return orchLeaderComm_; }
  [[nodiscard]] bool getSpawnProcesses() const { return spawnProcesses_; }
  void setIsOrchestrator(bool value) { isOrchestrator_ = value; }
  void setWorkerExecutablePath(std::string const& value) { workerExecutablePath_ = value; }
  void setOrchLeaderComm(std::shared_ptr<mpi::MpiComm> const& value) { orchLeaderComm_ = value; }
  void setSpawnProcesses(bool value) { spawnProcesses_ = value; }

 private:
  bool isOrchestrator_;
  std::string workerExecutablePath_;
  std::shared_ptr<mpi::MpiComm> orchLeaderComm_;  // shared, as upstream has it; always null
  bool spawnProcesses_;
};

/// Accepted with one rank, which runs in this process; more are refused by the executor.
class ParallelConfig {
 public:
  explicit ParallelConfig(
      CommunicationType commType = CommunicationType::kMPI,
      CommunicationMode commMode = CommunicationMode::kLEADER,
      std::optional<std::vector<SizeType32>> deviceIds = std::nullopt,
      std::optional<std::vector<SizeType32>> participantIds = std::nullopt,
      std::optional<OrchestratorConfig> const& orchestratorConfig = std::nullopt)
      : commType_(commType),
        commMode_(commMode),
        deviceIds_(std::move(deviceIds)),
        participantIds_(std::move(participantIds)),
        orchestratorConfig_(orchestratorConfig) {}

  [[nodiscard]] CommunicationType getCommunicationType() const { return commType_; }
  [[nodiscard]] CommunicationMode getCommunicationMode() const { return commMode_; }
  [[nodiscard]] std::optional<std::vector<SizeType32>> getDeviceIds() const { return deviceIds_; }
  [[nodiscard]] std::optional<std::vector<SizeType32>> getParticipantIds() const {
    return participantIds_;
  }
  [[nodiscard]] std::optional<OrchestratorConfig> getOrchestratorConfig() const {
    return orchestratorConfig_;
  }
  void setCommunicationType(CommunicationType value) { commType_ = value; }
  void setCommunicationMode(CommunicationMode value) { commMode_ = value; }
  void setDeviceIds(std::vector<SizeType32> const& value) { deviceIds_ = value; }
  void setParticipantIds(std::vector<SizeType32> const& value) { participantIds_ = value; }
  void setOrchestratorConfig(OrchestratorConfig const& value) { orchestratorConfig_ = value; }

 private:
  CommunicationType commType_;
  CommunicationMode commMode_;
  std::optional<std::vector<SizeType32>> deviceIds_;
  std::optional<std::vector<SizeType32>> participantIds_;
  std::optional<OrchestratorConfig> orchestratorConfig_;
};

/// Speculative modes are refused by the executor; the others change nothing.
class DecodingConfig {
 public:
  explicit DecodingConfig(std::optional<DecodingMode> decodingMode = std::nullopt,
                          std::optional<LookaheadDecodingConfig> lookahead = std::nullopt,
                          std::optional<MedusaChoices> medusaChoices = std::nullopt)
      : decodingMode_(decodingMode),
        lookaheadDecodingConfig_(lookahead),
        medusaChoices_(std::move(medusaChoices)) {}

  bool operator==(DecodingConfig const& other) const {
    return decodingMode_ == other.decodingMode_ &&
           lookaheadDecodingConfig_ == other.lookaheadDecodingConfig_ &&
           medusaChoices_ == other.medusaChoices_;
  }
  void setDecodingMode(DecodingMode const& value) { decodingMode_ = value; }
  [[nodiscard]] std::optional<DecodingMode> getDecodingMode() const { return decodingMode_; }
  void setLookaheadDecoding(LookaheadDecodingConfig const& value) {
    decodingMode_ = DecodingMode::Lookahead();
    lookaheadDecodingConfig_ = value;
  }
  [[nodiscard]] std::optional<LookaheadDecodingConfig> getLookaheadDecodingConfig() const {
    return lookaheadDecodingConfig_;
  }
  void setMedusaChoices(MedusaChoices const& value) {
    decodingMode_ = DecodingMode::Medusa();
    medusaChoices_ = value;
  }
  [[nodiscard]] std::optional<MedusaChoices> getMedusaChoices() const { return medusaChoices_; }

 private:
  std::optional<DecodingMode> decodingMode_;
  std::optional<LookaheadDecodingConfig> lookaheadDecodingConfig_;
  std::optional<MedusaChoices> medusaChoices_;
};

/// Functions that change logits, by the name that requests give.
class LogitsPostProcessorConfig {
 public:
  explicit LogitsPostProcessorConfig(
      std::optional<LogitsPostProcessorMap> processorMap = std::nullopt,
      std::optional<LogitsPostProcessorBatched> processorBatched = std::nullopt,
      bool replicate = true)
      : processorMap_(std::move(processorMap)),
        processorBatched_(std::move(processorBatched)),
        replicate_(replicate) {}

  [[nodiscard]] std::optional<LogitsPostProcessorMap> getProcessorMap() const {
    return processorMap_;
  }
  [[nodiscard]] std::optional<LogitsPostProcessorBatched> getProcessorBatched() const {
    return processorBatched_;
  }
  [[nodiscard]] bool getReplicate() const { return replicate_; }
  void setProcessorMap(LogitsPostProcessorMap const& value) { processorMap_ = value; }
  void setProcessorBatched(LogitsPostProcessorBatched const& value) { processorBatched_ = value; }
  void setReplicate(bool value) { replicate_ = value; }  // has no meaning with one rank

 private:
  std::optional<LogitsPostProcessorMap> processorMap_;
  std::optional<LogitsPostProcessorBatched> processorBatched_;
  bool replicate_;
};

}  // namespace tensorrt_llm::executor
