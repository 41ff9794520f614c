#pragma once

#include <cstddef>
#include <optional>
#include <tuple>

#include "tensorrt_llm/executor/types.h"

namespace tensorrt_llm::executor {

/// A cache of LoRA adapters. Accepted, with a warning: there is no LoRA here.
class PeftCacheConfig {
 public:
  explicit PeftCacheConfig(SizeType32 numHostModuleLayer = 0, SizeType32 numDeviceModuleLayer = 0,
                           SizeType32 optimalAdapterSize = 8, SizeType32 maxAdapterSize = 64,
                           SizeType32 numPutWorkers = 1, SizeType32 numEnsureWorkers = 1,
                           SizeType32 numCopyStreams = 1, SizeType32 maxPagesPerBlockHost = 24,
                           SizeType32 maxPagesPerBlockDevice = 8,
                           std::optional<float> const& deviceCachePercent = std::nullopt,
                           std::optional<std::size_t> const& hostCacheSize = std::nullopt)
      : numHostModuleLayer_(numHostModuleLayer),
        numDeviceModuleLayer_(numDeviceModuleLayer),
        optimalAdapterSize_(optimalAdapterSize),
        maxAdapterSize_(maxAdapterSize),
        numPutWorkers_(numPutWorkers),
        numEnsureWorkers_(numEnsureWorkers),
        numCopyStreams_(numCopyStreams),
        maxPagesPerBlockHost_(maxPagesPerBlockHost),
        maxPagesPerBlockDevice_(maxPagesPerBlockDevice),
        deviceCachePercent_(deviceCachePercent),
        hostCacheSize_(hostCacheSize) {}

  bool operator==(PeftCacheConfig const& other) const {
    auto const all = [](PeftCacheConfig const& c) {
      return std::tie(c.numHostModuleLayer_, c.numDeviceModuleLayer_, c.optimalAdapterSize_,
                      c.maxAdapterSize_, c.numPutWorkers_, c.numEnsureWorkers_, c.numCopyStreams_,
                      c.maxPagesPerBlockHost_, c.maxPagesPerBlockDevice_, c.deviceCachePercent_,
                      c.hostCacheSize_);
    };
    return all(*this) == all(other);
  }

  [[nodiscard]] SizeType32 getNumHostModuleLayer() const { return numHostModuleLayer_; }
  [[nodiscard]] SizeType32 getNumDeviceModuleLayer() const { return numDeviceModuleLayer_; }
  [[nodiscard]] SizeType32 getOptimalAdapterSize() const { return optimalAdapterSize_; }
  [[nodiscard]] SizeType32 getMaxAdapterSize() const { return maxAdapterSize_; }
  [[nodiscard]] SizeType32 getNumPutWorkers() const { return numPutWorkers_; }
  [[nodiscard]] SizeType32 getNumEnsureWorkers() const { return numEnsureWorkers_; }
  [[nodiscard]] SizeType32 getNumCopyStreams() const { return numCopyStreams_; }
  [[nodiscard]] SizeType32 getMaxPagesPerBlockHost() const { return maxPagesPerBlockHost_; }
  [[nodiscard]] SizeType32 getMaxPagesPerBlockDevice() const { return maxPagesPerBlockDevice_; }
  [[nodiscard]] std::optional<float> getDeviceCachePercent() const { return deviceCachePercent_; }
  [[nodiscard]] std::optional<std::size_t> getHostCacheSize() const { return hostCacheSize_; }

 private:
  SizeType32 numHostModuleLayer_;
  SizeType32 numDeviceModuleLayer_;
  SizeType32 optimalAdapterSize_;
  SizeType32 maxAdapterSize_;
  SizeType32 numPutWorkers_;
  SizeType32 numEnsureWorkers_;
  SizeType32 numCopyStreams_;
  SizeType32 maxPagesPerBlockHost_;
  SizeType32 maxPagesPerBlockDevice_;
  std::optional<float> deviceCachePercent_;
  std::optional<std::size_t> hostCacheSize_;
};

}  // namespace tensorrt_llm::executor
