"""The Executor under TensorRT-LLM's names."""

from __future__ import annotations

import contextlib
import datetime
import os
from typing import Any, Iterator, Mapping, Optional, Sequence, Union, overload

import headrace
from headrace.responses import make_response

from . import stats
from .configs import ExecutorConfig
from .enums import ModelType
from .opening import to_opening
from .requests import Request
from .responses import Response, from_headrace


@contextlib.contextmanager
def _runtime_errors() -> Iterator[None]:
    """Clients catch RuntimeError, which is all that upstream raises."""
    try:
        yield
    except (ValueError, OSError, MemoryError) as error:
        raise RuntimeError(str(error)) from error


class Executor:
    """Serves requests of an engine. As a context manager it shuts down at the end."""

    __slots__ = ("_executor", "__weakref__")  # setting what is no attribute is an error

    @overload
    def __init__(self, model_path: Union[str, os.PathLike], model_type: ModelType,
                 executor_config: ExecutorConfig) -> None: ...

    @overload
    def __init__(self, engine_buffer: Union[bytes, bytearray, memoryview], json_config_str: str,
                 model_type: ModelType, executor_config: ExecutorConfig,
                 managed_weights: Optional[Mapping[str, Any]] = None) -> None: ...

    def __init__(self, *args, **named):
        """Of an engine's folder; or of its files: what rank0.engine and config.json hold, which are
        written to a temporary folder that lives as long as the executor."""
        with _runtime_errors():
            opening = to_opening(args, named)
            config = opening.executor_config
            self._executor = headrace.Executor(opening.folder(self), config.to_headrace())
        self._check_windows(config.kv_cache_config.max_attention_window)

    def _check_windows(self, windows: Optional[Sequence[int]]) -> None:
        most = self._executor.max_sequence_tokens
        if windows and min(windows) < most:
            self.shutdown()
            raise NotImplementedError(f"[executor] an attention window of {min(windows)} tokens is "
                                      f"not supported: leave it out, or use {most} or more")

    def __enter__(self) -> "Executor":
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    def shutdown(self) -> None:
        """Ends everything."""
        self._executor.shutdown()

    def can_enqueue_requests(self) -> bool:
        """Whether it has not been shut down."""
        return self._executor.can_enqueue()

    def enqueue_request(self, request: Request) -> int:
        """Queues a request and returns its id."""
        with _runtime_errors():
            return self._executor.enqueue(_to_headrace(request))

    def enqueue_requests(self, requests: Sequence[Request]) -> list[int]:
        """The same for several."""
        with _runtime_errors():
            return self._executor.enqueue_all([_to_headrace(request) for request in requests])

    def await_responses(self, *args: Any, **kwargs: Any) -> Any:
        """await_responses([timeout]), (id[, timeout]) or (ids[, timeout]), which gives a list of
        lists. The timeout is a timedelta; None: as long as it takes."""
        ids, timeout = _ids_and_timeout(*args, **kwargs)
        with _runtime_errors():
            return self._executor._await(  # what Ctrl-C interrupts comes again
                ids, timeout, lambda fields: from_headrace(make_response(fields)))

    def get_num_responses_ready(self, id: Optional[int] = None) -> int:
        """Responses that can be taken without waiting."""
        with _runtime_errors():
            return self._executor.responses_ready(id)

    def cancel_request(self, id: int) -> None:
        """Ends a request before its next token."""
        with _runtime_errors():
            self._executor.cancel(id)

    def get_latest_iteration_stats(self) -> list[stats.IterationStats]:
        """Of the passes since the last call."""
        with _runtime_errors():
            return [stats.from_headrace(one) for one in self._executor.latest_iteration_stats()]

    def get_latest_request_stats(self) -> list[stats.RequestStatsPerIteration]:
        """Of the passes since the last call."""
        with _runtime_errors():
            latest = self._executor.latest_request_stats()
        return [stats.requests_from_headrace(one) for one in latest]

    def get_latest_debug_tensors(self) -> list[Any]:
        """There are none."""
        return []

    @property
    def gpu_weights_percent(self) -> float:
        """The share of the weights in fast memory; it can be set while requests are served."""
        with _runtime_errors():
            return self._executor.gpu_weights_percent

    @gpu_weights_percent.setter
    def gpu_weights_percent(self, percent: float) -> None:
        with _runtime_errors():
            self._executor.gpu_weights_percent = percent


def _to_headrace(request: Request) -> headrace.Request:
    if not isinstance(request, Request):
        raise TypeError(f"[executor] a request cannot be {request!r}: use a Request")
    return request.to_headrace()


def _ids_and_timeout(*args: Any, id: Optional[int] = None, ids: Optional[Sequence[int]] = None,
                     timeout: Optional[datetime.timedelta] = None) -> tuple[Any, Any]:
    wanted = id if ids is None else ids
    if args and (args[0] is None or isinstance(args[0], datetime.timedelta)):
        (timeout,) = args
    elif args:
        wanted, timeout = args if len(args) == 2 else (args[0], timeout)
    return wanted, timeout
