"""TensorRT-LLM's names for weight streaming, builds and the Executor, on top of headrace.

For programs that were written against TensorRT-LLM. What has no meaning here is accepted with a
warning on the logger "headrace"; what would change results is an error.
"""

from headrace import __version__

from . import bindings, builder
from .builder import BuildConfig, Builder, BuilderConfig

__all__ = ["BuildConfig", "Builder", "BuilderConfig", "__version__", "bindings", "builder"]
