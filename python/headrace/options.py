"""What an Executor and its requests are told: plain values, which pickle, compare and print.

Names, defaults and meanings are those of the C++ structs in include/headrace.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any, Callable, Literal, Mapping, Optional, Sequence, Union

import numpy as np
from numpy.typing import ArrayLike

from .fields import CheckedFields

BATCHED_LOGITS_PROCESSOR = "batched"
"""The `Request.logits_processor` that means `ExecutorConfig.batched_logits_processor`."""


@dataclasses.dataclass
class KvCacheConfig(CheckedFields):
    """The memory in which an executor keeps keys and values."""

    max_tokens: Optional[int] = None
    """Positions, or fewer by `free_memory_fraction`."""
    free_memory_fraction: Optional[float] = None
    """Of the memory that is free beside the weights, which changes with their share; None: 0.9
    without `max_tokens`, all of it with."""
    enable_block_reuse: bool = False
    """Prompts that begin alike share what was computed."""


@dataclasses.dataclass
class LogitsStep:
    """One sequence's step, as a logits processor sees it. Change `logits` in place."""

    request_id: int
    client_id: Optional[int]
    sequence_index: int
    """Which of `num_return_sequences`."""
    logits: np.ndarray
    """float32 [beams, vocab_size]."""
    tokens: list[np.ndarray]
    """By beam: int32, prompt and generated."""


LogitsProcessor = Callable[[LogitsStep], Any]
"""Changes logits before a token is chosen from them. Called on the executor's thread, which waits;
an exception ends the request with an error. It may cancel() and enqueue(); what waits raises."""

BatchedLogitsProcessor = Callable[[list[LogitsStep]], Any]
"""The same for all sequences of a pass that ask for it."""


@dataclasses.dataclass
class ExecutorConfig(CheckedFields):
    """How an engine is opened and run."""

    device: str = "auto"
    """auto, cpu or cuda."""
    threads: int = 0
    """Of the CPU; 0: all processors."""
    gpu_weights_percent: Union[float, Literal["auto"]] = 1.0
    """Share of the weights kept in fast memory, 0 to 1, or "auto": as many as fit."""
    gpu_weights_bytes: Optional[int] = None
    """The same in bytes; the percentage is left out."""
    memory_limit_bytes: int = 0
    """Of fast memory that may be taken; 0: what is free."""
    ring_requests: int = 0
    """Slots of the ring of streamed weights; 0: planned."""
    profile_path: Union[str, os.PathLike] = ""
    """Machine profile; empty: measured once and cached."""
    host_threads: Optional[int] = None
    """Threads that multiply in host memory while a GPU streams, 0: none; None: all processors but
    one."""
    max_batch_size: int = 0
    """Sequences in a pass; 0: the engine's."""
    max_num_tokens: int = 0
    """Token rows of a pass; 0: the engine's, less on the CPU."""
    max_beam_width: int = 1
    """Requests with more beams are refused."""
    max_queue_size: Optional[int] = None
    """Requests that wait; None: no limit."""
    capacity_policy: Literal["guaranteed_no_evict", "max_utilization"] = "guaranteed_no_evict"
    """Which waiting requests are admitted while others run."""
    kv_cache: KvCacheConfig = dataclasses.field(default_factory=KvCacheConfig)
    enable_chunked_context: bool = True
    """Prompts are cut to fill passes; without, only those that no pass holds whole."""
    normalize_log_probs: bool = True
    """Of beams: sums are divided by length."""
    iteration_stats_max: int = 1000
    """Passes whose stats are kept until fetched; 0: none."""
    request_stats_max: int = 0
    """The same of requests' stats."""
    logits_processors: Mapping[str, LogitsProcessor] = dataclasses.field(default_factory=dict)
    """By the name that `Request.logits_processor` gives."""
    batched_logits_processor: Optional[BatchedLogitsProcessor] = None
    """For requests whose logits_processor is BATCHED_LOGITS_PROCESSOR."""
    log: Optional[Callable[[str, str], Any]] = None
    """Called with (level, line); None: the logger "headrace" of `logging`."""


@dataclasses.dataclass
class SamplingOptions(CheckedFields):
    """How the tokens of a request are chosen. Greedy by default: top_k is 1, as in TensorRT-LLM."""

    beam_width: int = 1
    """Beams of a beam search; 1: none."""
    num_return_sequences: int = 0
    """Without beams, sequences drawn apart; with, the first beams. 0: one sequence, or all beams."""
    temperature: float = 1.0
    """0: greedy."""
    top_k: int = 1
    """0: no limit, unless top_p is 0 too."""
    top_p: float = 0.0
    """0 or 1: no limit."""
    min_p: float = 0.0
    """0: no limit."""
    top_p_decay: float = 1.0
    """Factor on top_p after each token; 1: none."""
    top_p_min: float = 1e-6
    """top_p does not decay below."""
    top_p_reset_id: int = -1
    """Token that brings top_p back; -1: none."""
    repetition_penalty: float = 1.0
    """Above 0; 1: none."""
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    no_repeat_ngram_size: int = 0
    """0: off."""
    min_length: int = 0
    """No end id before so many generated tokens."""
    random_seed: int = 0
    """Equal seeds give equal draws at equal positions."""
    length_penalty: float = 0.0
    """Of beam search."""
    early_stopping: int = 1
    """Of beam search: 0 no, 1 yes, others as TensorRT-LLM."""
    beam_search_diversity_rate: float = 0.0
    """Of beam search."""


@dataclasses.dataclass
class OutputOptions(CheckedFields):
    """What a response holds beside tokens."""

    log_probs: bool = False
    """Natural logarithms, by token and summed."""
    context_logits: bool = False
    """Of every prompt position."""
    generation_logits: bool = False
    """Those that each token was chosen from."""
    exclude_input: bool = False
    """Leave the prompt out of `Result.tokens`."""
    exclude_end_id: bool = False
    """Leave the end id that ended a sequence out of `Result.tokens`."""


@dataclasses.dataclass
class Request(CheckedFields):
    """One prompt and what to make of it. Checked when it is enqueued."""

    prompt: ArrayLike
    """Token ids, at least one: an array of any integer type, or a list."""
    max_new_tokens: int = 1
    streaming: bool = False
    """A response for every token instead of one at the end."""
    sampling: SamplingOptions = dataclasses.field(default_factory=SamplingOptions)
    output: OutputOptions = dataclasses.field(default_factory=OutputOptions)
    end_id: Optional[int] = None
    """Generating it ends a sequence; None: never."""
    pad_id: Optional[int] = None
    """Accepted: results are never padded."""
    bad_words: Sequence[ArrayLike] = ()
    """Rows of token ids that are never completed."""
    stop_words: Sequence[ArrayLike] = ()
    """A sequence that ends with one of these has ended."""
    embedding_bias: Optional[ArrayLike] = None
    """[vocab_size], added to the logits."""
    logits_processor: str = ""
    """A name of `ExecutorConfig.logits_processors`; empty: none."""
    client_id: Optional[int] = None
    """Handed to the logits processor."""
    priority: float = 0.5
    """0 to 1; larger ones are served first."""
    deadline_ms: Optional[int] = None
    """Since it was enqueued; then it ends with what there is."""
    return_all_generated_tokens: bool = False
    """Streaming: each response repeats the earlier tokens."""
