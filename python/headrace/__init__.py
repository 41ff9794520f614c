"""Headrace runs language models whose weights do not fit in fast memory.

    import headrace

    with headrace.LLM("engine_outputs", gpu_weights_percent=0.2) as llm:
        for piece in llm.generate("Once upon a time", max_tokens=64, stream=True):
            print(piece.text, end="", flush=True)

LLM is text in, text out; Executor serves requests of token ids; plan() says beforehand what a share
of the weights in fast memory takes and gives; BuildConfig and build() make engines of checkpoints.

What the library refuses is a ValueError, FileNotFoundError, OSError, MemoryError,
NotImplementedError or RuntimeError that says what would work.
"""

from ._core import Detokenizer, StopWords, Tokenizer, __version__
from .engines import BuildConfig, Builder, BuilderConfig, BuildReport, PluginConfig, build, plan
from .executor import Executor
from .generation import Chunk, Completion, Output, SamplingParams
from .llm import LLM
from .options import (BATCHED_LOGITS_PROCESSOR, BatchedLogitsProcessor, ExecutorConfig,
                      KvCacheConfig, LogitsProcessor, LogitsStep, OutputOptions, Request,
                      SamplingOptions)
from .responses import (FinishReason, IterationStats, KvCacheStats, RequestStats,
                        RequestStatsOfIteration, Response, Result)

__all__ = [
    "BATCHED_LOGITS_PROCESSOR", "BatchedLogitsProcessor", "BuildConfig", "BuildReport", "Builder",
    "BuilderConfig", "Chunk", "Completion", "Detokenizer", "Executor", "ExecutorConfig",
    "FinishReason", "IterationStats", "KvCacheConfig", "KvCacheStats", "LLM", "LogitsProcessor",
    "LogitsStep", "Output", "OutputOptions", "PluginConfig", "Request", "RequestStats",
    "RequestStatsOfIteration", "Response", "Result", "SamplingOptions", "SamplingParams",
    "StopWords", "Tokenizer", "__version__", "build", "plan",
]
