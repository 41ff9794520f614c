"""Statistics of passes and requests."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import json
from typing import Any, Optional

import headrace

from .enums import RequestStage


def _camel_case(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join("MS" if word == "ms" else word.capitalize() for word in rest)


def _to_plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {_camel_case(field.name): _to_plain(getattr(value, field.name))
                for field in dataclasses.fields(value)}
    if isinstance(value, list):
        return [_to_plain(item) for item in value]
    return value.name if isinstance(value, enum.Enum) else value


class _Stats:
    def to_json_str(self) -> str:
        """The same as JSON, in camelCase."""
        return json.dumps(_to_plain(self))


@dataclasses.dataclass
class KvCacheStats(_Stats):
    """Blocks of the KV cache."""

    max_num_blocks: int = 0
    free_num_blocks: int = 0
    used_num_blocks: int = 0
    tokens_per_block: int = 0
    alloc_total_blocks: int = 0
    """Always 0: blocks are not counted as they are taken."""
    alloc_new_blocks: int = 0
    """Always 0."""
    reused_blocks: int = 0


@dataclasses.dataclass
class StaticBatchingStats(_Stats):
    """Never filled in: requests are batched in flight."""

    num_scheduled_requests: int = 0
    num_context_requests: int = 0
    num_ctx_tokens: int = 0
    num_gen_tokens: int = 0
    empty_gen_slots: int = 0


@dataclasses.dataclass
class InflightBatchingStats(_Stats):
    """What took part in a pass."""

    num_scheduled_requests: int = 0
    num_context_requests: int = 0
    num_gen_requests: int = 0
    num_paused_requests: int = 0
    num_ctx_tokens: int = 0
    micro_batch_id: int = 0
    avg_num_decoded_tokens_per_iter: float = 0.0
    """1 in a pass that generates, 0 in others."""


@dataclasses.dataclass
class IterationStats(_Stats):
    """One pass."""

    timestamp: str = ""
    """Its end, UTC: "11-27-2026 16:05:01.123456"."""
    iter: int = 0
    iter_latency_ms: float = 0.0
    new_active_requests_queue_latency_ms: float = 0.0
    """Always 0."""
    num_active_requests: int = 0
    num_queued_requests: int = 0
    num_completed_requests: int = 0
    max_num_active_requests: int = 0
    gpu_mem_usage: int = 0
    """Always 0."""
    cpu_mem_usage: int = 0
    """Always 0."""
    pinned_mem_usage: int = 0
    """Always 0."""
    kv_cache_stats: Optional[KvCacheStats] = None
    cross_kv_cache_stats: Optional[KvCacheStats] = None
    """Always None."""
    static_batching_stats: Optional[StaticBatchingStats] = None
    """Always None."""
    inflight_batching_stats: Optional[InflightBatchingStats] = None


@dataclasses.dataclass
class RequestStats(_Stats):
    """One request in one pass."""

    id: int = 0
    stage: RequestStage = RequestStage.QUEUED
    context_prefill_position: int = 0
    num_generated_tokens: int = 0
    avg_num_decoded_tokens_per_iter: float = 0.0
    """1 once there is a token, 0 before."""
    scheduled: bool = False
    paused: bool = False


@dataclasses.dataclass
class RequestStatsPerIteration(_Stats):
    """The requests of one pass."""

    iter: int = 0
    request_stats: list[RequestStats] = dataclasses.field(default_factory=list)


def from_headrace(stats: headrace.IterationStats) -> IterationStats:
    """headrace's stats under these names."""
    cache = stats.kv_cache
    when = datetime.datetime.fromtimestamp(stats.timestamp_us / 1e6, datetime.timezone.utc)
    return IterationStats(
        timestamp=when.strftime("%m-%d-%Y %H:%M:%S.%f"), iter=stats.iteration,
        iter_latency_ms=stats.latency_ms, num_active_requests=stats.active_requests,
        num_queued_requests=stats.queued_requests, num_completed_requests=stats.completed_requests,
        max_num_active_requests=stats.max_active_requests,
        kv_cache_stats=KvCacheStats(
            max_num_blocks=cache.max_blocks, free_num_blocks=cache.free_blocks,
            used_num_blocks=cache.used_blocks, tokens_per_block=cache.tokens_per_block,
            reused_blocks=cache.reused_blocks),
        inflight_batching_stats=InflightBatchingStats(
            num_scheduled_requests=stats.scheduled_sequences,
            num_context_requests=stats.context_sequences,
            num_gen_requests=stats.generation_sequences,
            num_paused_requests=stats.paused_sequences, num_ctx_tokens=stats.context_tokens,
            avg_num_decoded_tokens_per_iter=1.0 if stats.generated_tokens else 0.0))


def requests_from_headrace(stats: headrace.RequestStatsOfIteration) -> RequestStatsPerIteration:
    """headrace's stats under these names."""
    return RequestStatsPerIteration(stats.iteration, [
        RequestStats(request.request_id, RequestStage[request.stage.upper()],
                     request.context_position, request.generated_tokens,
                     1.0 if request.generated_tokens else 0.0, request.scheduled, request.paused)
        for request in stats.requests])
