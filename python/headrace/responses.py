"""What an Executor answers: plain values, which pickle, compare and print."""

from __future__ import annotations

import dataclasses
import enum
from typing import Optional

import numpy as np


class FinishReason(str, enum.Enum):
    """Why a sequence has ended."""

    NOT_FINISHED = "not_finished"
    LENGTH = "length"
    END_ID = "end_id"
    STOPPED = "stopped"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"


@dataclasses.dataclass
class Result:
    """What one response tells of one sequence of a request, or of all its beams."""

    is_final: bool
    """Nothing more comes for this request."""
    sequence_index: int
    """Which of `num_return_sequences`."""
    is_sequence_final: bool
    """Nothing more comes for this sequence."""
    tokens: list[list[int]]
    """By beam. Streaming: the new tokens alone. Otherwise the prompt, unless it is excluded, and all
    that was generated."""
    cum_log_probs: list[float]
    """By beam; empty unless asked for."""
    log_probs: list[list[float]]
    """By beam, of the generated tokens in `tokens`."""
    context_logits: Optional[np.ndarray]
    """float32 [rows, vocab_size]."""
    generation_logits: Optional[np.ndarray]
    """float32 [rows, vocab_size], or [beams, rows, vocab_size]."""
    decoding_iterations: int
    """Steps so far that this sequence took, each of which chose a token for every beam."""
    finish_reasons: list[FinishReason]
    """By beam."""


@dataclasses.dataclass
class Response:
    """A result, or the error that ended the request."""

    request_id: int
    error: Optional[str]
    result: Result
    """If there is an error, it means nothing but is_final."""


@dataclasses.dataclass
class KvCacheStats:
    """Blocks of the KV cache."""

    max_blocks: int
    free_blocks: int
    used_blocks: int
    tokens_per_block: int
    reused_blocks: int


@dataclasses.dataclass
class IterationStats:
    """One pass of the executor (include/headrace/executor_stats.h describes the fields)."""

    iteration: int
    timestamp_us: int
    latency_ms: float
    scheduling_ms: float
    max_active_requests: int
    active_requests: int
    queued_requests: int
    new_requests: int
    completed_requests: int
    scheduled_sequences: int
    context_sequences: int
    generation_sequences: int
    paused_sequences: int
    context_tokens: int
    generated_tokens: int
    streamed_bytes: int
    gpu_weights_percent: float
    kv_cache: KvCacheStats


@dataclasses.dataclass
class RequestStats:
    """One request in one pass."""

    request_id: int
    stage: str
    """queued, context_in_progress, generation_in_progress or generation_complete."""
    context_position: int
    generated_tokens: int
    scheduled: bool
    paused: bool
    preemptions: int
    reused_blocks: int


@dataclasses.dataclass
class RequestStatsOfIteration:
    """The requests of one pass."""

    iteration: int
    requests: list[RequestStats]


def make_response(fields: tuple) -> Response:
    """A response of the fields that the module gives."""
    request_id, error, *result = fields
    result[-1] = [FinishReason(name) for name in result[-1]]
    return Response(request_id, error, Result(*result))


def make_iteration_stats(fields: dict) -> IterationStats:
    """Stats of the fields that the module gives."""
    return IterationStats(**{**fields, "kv_cache": KvCacheStats(**fields["kv_cache"])})


def make_request_stats(fields: dict) -> RequestStatsOfIteration:
    """Stats of the fields that the module gives."""
    requests = [RequestStats(**request) for request in fields["requests"]]
    return RequestStatsOfIteration(fields["iteration"], requests)
