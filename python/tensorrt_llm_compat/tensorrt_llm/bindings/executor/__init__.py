"""tensorrt_llm.bindings.executor: many requests at once, under TensorRT-LLM's names."""

from headrace import __version__

from .configs import (DebugConfig, ExecutorConfig, ExtendedRuntimePerfKnobConfig, KvCacheConfig,
                      LogitsPostProcessorConfig, OrchestratorConfig, ParallelConfig,
                      PeftCacheConfig, SchedulerConfig)
from .decoding import DecodingConfig, DecodingMode, LookaheadDecodingConfig
from .enums import (BatchingType, CapacitySchedulerPolicy, CommunicationMode, CommunicationType,
                    ContextChunkingPolicy, FinishReason, ModelType, RequestStage, RequestType)
from .executor import Executor
from .requests import (ContextPhaseParams, ExternalDraftTokensConfig, LoraConfig, OutputConfig,
                       PromptTuningConfig, Request, SamplingConfig)
from .responses import Response, Result
from .stats import (InflightBatchingStats, IterationStats, KvCacheStats, RequestStats,
                    RequestStatsPerIteration, StaticBatchingStats)

__all__ = [
    "BatchingType", "CapacitySchedulerPolicy", "CommunicationMode", "CommunicationType",
    "ContextChunkingPolicy", "ContextPhaseParams", "DebugConfig", "DecodingConfig", "DecodingMode",
    "Executor", "ExecutorConfig", "ExtendedRuntimePerfKnobConfig", "ExternalDraftTokensConfig",
    "FinishReason", "InflightBatchingStats", "IterationStats", "KvCacheConfig", "KvCacheStats",
    "LogitsPostProcessorConfig", "LookaheadDecodingConfig", "LoraConfig", "ModelType",
    "OrchestratorConfig", "OutputConfig", "ParallelConfig", "PeftCacheConfig",
    "PromptTuningConfig", "Request", "RequestStage", "RequestStats", "RequestStatsPerIteration",
    "RequestType", "Response", "Result", "SamplingConfig", "SchedulerConfig",
    "StaticBatchingStats", "__version__",
]
