"""What an Executor is told. Fields that have no meaning here say so, and are accepted."""

from __future__ import annotations

import dataclasses
import inspect
import logging
import numbers
import os
from typing import Any, Callable, Mapping, Optional, Sequence

import headrace

from .decoding import DecodingConfig
from .enums import (BatchingType, CapacitySchedulerPolicy, CommunicationMode, CommunicationType,
                    ContextChunkingPolicy)
from .fields import Config
from .tensors import to_tensor

_LOGGER = logging.getLogger("headrace")


def _warn_unused(config: Any, names: Sequence[str]) -> None:
    """Says which of these fields are not at their defaults."""
    defaults = type(config)()
    for name in names:
        value = getattr(config, name)
        if value != getattr(defaults, name):
            _LOGGER.warning("%s.%s %r: accepted, has no meaning here", type(config).__name__, name,
                            value)


@dataclasses.dataclass
class SchedulerConfig(Config):
    """Which requests run."""

    capacity_scheduler_policy: CapacitySchedulerPolicy = CapacitySchedulerPolicy.GUARANTEED_NO_EVICT
    context_chunking_policy: Optional[ContextChunkingPolicy] = None


@dataclasses.dataclass
class KvCacheConfig(Config):
    """The memory of keys and values. Attention windows, sinks and host caches are not there: windows
    that no request reaches are accepted."""

    enable_block_reuse: bool = False
    max_tokens: Optional[int] = None
    max_attention_window: Optional[list[int]] = None
    sink_token_length: Optional[int] = None
    free_gpu_memory_fraction: Optional[float] = None
    host_cache_size: Optional[int] = None
    onboard_blocks: bool = True

    def to_headrace(self) -> headrace.KvCacheConfig:
        """The same for headrace."""
        if self.sink_token_length:
            raise NotImplementedError(f"[executor] sink_token_length {self.sink_token_length}: sink "
                                      "tokens are not supported, leave it out")
        _warn_unused(self, ["host_cache_size"])
        config = headrace.KvCacheConfig(max_tokens=self.max_tokens,
                                        enable_block_reuse=self.enable_block_reuse)
        if self.free_gpu_memory_fraction is not None:
            config.free_memory_fraction = self.free_gpu_memory_fraction
        return config


@dataclasses.dataclass
class OrchestratorConfig(Config):
    """Accepted: one process serves."""

    is_orchestrator: bool = True
    worker_executable_path: str = ""
    orch_leader_comm: Any = None
    spawn_processes: bool = True


@dataclasses.dataclass
class ParallelConfig(Config):
    """Accepted: one process serves."""

    communication_type: CommunicationType = CommunicationType.MPI
    communication_mode: CommunicationMode = CommunicationMode.LEADER
    device_ids: Optional[list[int]] = None
    participant_ids: Optional[list[int]] = None
    orchestrator_config: Optional[OrchestratorConfig] = None

    def check(self) -> None:
        """NotImplementedError for more than one rank."""
        for ids in (self.device_ids, self.participant_ids):
            if ids is not None and len(ids) > 1:
                raise NotImplementedError(f"[executor] {len(ids)} devices or participants: one is "
                                          "supported, in this process")
        if self.device_ids and self.device_ids[0] != 0:
            _LOGGER.warning("Device %d: the first visible one is used; CUDA_VISIBLE_DEVICES "
                            "chooses it", self.device_ids[0])


@dataclasses.dataclass
class PeftCacheConfig(Config):
    """Accepted: there are no adapters."""

    num_host_module_layer: int = 0
    num_device_module_layer: int = 0
    optimal_adapter_size: int = 8
    max_adapter_size: int = 64
    num_put_workers: int = 1
    num_ensure_workers: int = 1
    num_copy_streams: int = 1
    max_pages_per_block_host: int = 24
    max_pages_per_block_device: int = 8
    device_cache_percent: Optional[float] = None
    host_cache_size: Optional[int] = None


@dataclasses.dataclass
class DebugConfig(Config):
    """Accepted: there are no tensors to be had."""

    _OLD_NAMES = {"dump_input_tensors": "debug_input_tensors",  # of 0.13
                  "dump_output_tensors": "debug_output_tensors"}

    debug_input_tensors: bool = False
    debug_output_tensors: bool = False
    debug_tensor_names: Optional[list[str]] = None
    debug_tensors_max_iterations: int = 0


@dataclasses.dataclass
class ExtendedRuntimePerfKnobConfig(Config):
    """Accepted."""

    multi_block_mode: bool = True
    enable_context_fmha_fp32_acc: bool = False


def _device() -> str:
    """HEADRACE_DEVICE: clients that know of GPUs alone have no other way to choose."""
    device = os.environ.get("HEADRACE_DEVICE") or "auto"
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"[executor] HEADRACE_DEVICE '{device[:80]}': use auto, cpu or cuda")
    return device


def _host_threads() -> Optional[int]:
    """HEADRACE_HOST_THREADS, in the same way."""
    threads = os.environ.get("HEADRACE_HOST_THREADS")
    if not threads:
        return None
    if not (threads.isascii() and threads.isdecimal() and len(threads) < 10):
        raise ValueError(f"[executor] HEADRACE_HOST_THREADS '{threads[:80]}': use a number of "
                         "threads, 0 or more")
    return int(threads)


def _takes_client_id(processor: Callable) -> bool:
    try:
        inspect.signature(processor).bind(*range(5))
    except TypeError:
        return False
    except ValueError:  # of a builtin
        pass
    return True


def _single(processor: Callable) -> headrace.LogitsProcessor:
    """`processor`(request id, logits [1, beams, vocab], tokens by beam, stream[, client id])."""
    with_client = _takes_client_id(processor)

    def process(step: headrace.LogitsStep) -> None:
        more = (step.client_id,) if with_client else ()
        processor(step.request_id, to_tensor(step.logits[None]),
                  [tokens.tolist() for tokens in step.tokens], 0, *more)

    return process


def _batched(processor: Callable) -> headrace.BatchedLogitsProcessor:
    """The same with a list of each."""
    with_client = _takes_client_id(processor)

    def process(steps: list[headrace.LogitsStep]) -> None:
        more = ([step.client_id for step in steps],) if with_client else ()
        processor([step.request_id for step in steps],
                  [to_tensor(step.logits[None]) for step in steps],
                  [[tokens.tolist() for tokens in step.tokens] for step in steps], 0, *more)

    return process


@dataclasses.dataclass
class LogitsPostProcessorConfig(Config):
    """Functions that change logits before a token is chosen from them."""

    processor_map: Optional[Mapping[str, Callable]] = None
    processor_batched: Optional[Callable] = None
    replicate: bool = True


@dataclasses.dataclass
class ExecutorConfig(Config):
    """How an Executor runs. ExecutorConfig(0.5), with a float, means gpu_weights_percent."""

    max_beam_width: int = 1
    scheduler_config: SchedulerConfig = dataclasses.field(default_factory=SchedulerConfig)
    kv_cache_config: KvCacheConfig = dataclasses.field(default_factory=KvCacheConfig)
    enable_chunked_context: bool = False
    normalize_log_probs: bool = True
    iter_stats_max_iterations: int = 1000
    request_stats_max_iterations: int = 0
    batching_type: BatchingType = BatchingType.INFLIGHT
    max_batch_size: Optional[int] = None
    max_num_tokens: Optional[int] = None
    parallel_config: Optional[ParallelConfig] = None
    peft_cache_config: Optional[PeftCacheConfig] = None
    logits_post_processor_config: Optional[LogitsPostProcessorConfig] = None
    decoding_config: Optional[DecodingConfig] = None
    gpu_weights_percent: float = 1.0
    max_queue_size: Optional[int] = None
    extended_runtime_perf_knob_config: Optional[ExtendedRuntimePerfKnobConfig] = dataclasses.field(
        default_factory=ExtendedRuntimePerfKnobConfig)
    debug_config: Optional[DebugConfig] = None
    recv_poll_period_ms: int = 0
    max_seq_idle_microseconds: int = 180000000
    # Before 0.12 the two were here.
    logits_post_processor_map: Optional[Mapping[str, Callable]] = None
    logits_post_processor_batched: Optional[Callable] = None

    def __post_init__(self) -> None:
        is_whole = isinstance(self.max_beam_width, numbers.Integral)
        if isinstance(self.max_beam_width, numbers.Real) and not is_whole:
            self.gpu_weights_percent, self.max_beam_width = self.max_beam_width, 1

    def to_headrace(self) -> headrace.ExecutorConfig:
        """The same for headrace. NotImplementedError for what it cannot do."""
        self.check_types()
        _warn_unused(self, ["batching_type", "peft_cache_config", "debug_config"])
        for part in (self.parallel_config, self.decoding_config):
            if part is not None:
                part.check()
        processors = self.logits_post_processor_config or LogitsPostProcessorConfig()
        single = processors.processor_map or self.logits_post_processor_map or {}
        batched = processors.processor_batched or self.logits_post_processor_batched
        policy: Any = self.scheduler_config.capacity_scheduler_policy.name.lower()
        return headrace.ExecutorConfig(
            device=_device(),
            host_threads=_host_threads(),
            gpu_weights_percent=self.gpu_weights_percent,
            max_batch_size=self.max_batch_size or 0,
            max_num_tokens=self.max_num_tokens or 0,
            max_beam_width=self.max_beam_width,
            max_queue_size=self.max_queue_size,
            capacity_policy=policy,
            kv_cache=self.kv_cache_config.to_headrace(),
            enable_chunked_context=self.enable_chunked_context,
            normalize_log_probs=self.normalize_log_probs,
            iteration_stats_max=self.iter_stats_max_iterations,
            request_stats_max=self.request_stats_max_iterations,
            logits_processors={name: _single(processor) for name, processor in single.items()},
            batched_logits_processor=None if batched is None else _batched(batched))
