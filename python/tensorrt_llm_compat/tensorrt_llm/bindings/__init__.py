"""tensorrt_llm.bindings: the Executor alone."""

from . import executor

__all__ = ["executor"]
