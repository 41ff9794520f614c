"""The Executor: an engine that serves many requests at once."""

from __future__ import annotations

import atexit
import collections
import dataclasses
import datetime
import math
import numbers
import operator
import os
import weakref
from typing import Any, Iterable, Optional, Sequence, Union, overload

import numpy as np

from . import _core
from .logs import log_to_logging
from .options import ExecutorConfig, Request
from .responses import (IterationStats, RequestStatsOfIteration, Response, make_iteration_stats,
                        make_request_stats, make_response)

Timeout = Union[None, float, datetime.timedelta]
"""Seconds, or a timedelta; None: as long as it takes."""

_MOST_ID = (1 << 64) - 1
_NO_REQUEST = _MOST_ID  # ids count up from 1

# Threads of the library may not need the interpreter when it has gone.
_open: "weakref.WeakSet[Executor]" = weakref.WeakSet()


@atexit.register
def _shut_down_all() -> None:
    for executor in list(_open):
        executor.shutdown()


def _milliseconds(timeout: Timeout) -> Optional[int]:
    if timeout is None:
        return None
    if isinstance(timeout, datetime.timedelta):
        timeout = timeout.total_seconds()
    if not isinstance(timeout, numbers.Real):
        raise TypeError(f"[executor] a timeout cannot be {timeout!r}: use seconds, a timedelta, or "
                        "None to wait for ever")
    if math.isnan(timeout):
        raise ValueError("[executor] a timeout of NaN: give seconds, or None to wait for ever")
    return math.ceil(min(max(0, timeout * 1000), 1e15))


def _request_id(value: Any) -> int:
    try:
        request_id = operator.index(value)
    except TypeError:
        raise TypeError(f"[executor] a request id cannot be {value!r}: use what enqueue() "
                        "returned, or a list of such") from None
    if not 0 <= request_id <= _MOST_ID:
        raise ValueError(f"[executor] a request id cannot be {request_id}: use what enqueue() "
                         "returned")
    return request_id


def _is_several(ids: Any) -> bool:
    if isinstance(ids, np.ndarray):
        return ids.ndim == 1
    return isinstance(ids, Sequence) and not isinstance(ids, (str, bytes))


def resolve(config: ExecutorConfig) -> ExecutorConfig:
    """`config` as the module takes it: with somewhere to log to, and paths as strings."""
    if not isinstance(config, ExecutorConfig):
        raise TypeError(f"[executor] a config cannot be {config!r}: use an ExecutorConfig")
    return dataclasses.replace(config, log=config.log or log_to_logging,
                               profile_path=os.fspath(config.profile_path))


class Executor:
    """Serves many requests at once: every pass over the weights moves each of them on.

    Thread-safe. Calls that wait let other threads run, and Ctrl-C ends them. What is wrong with a
    request is told by its response. In a forked child every call but can_enqueue() and shutdown()
    raises ValueError; after shutdown(), every one but these and what tells of the engine. As a
    context manager it shuts down at the end.
    """

    __slots__ = ("_core", "__weakref__")  # setting what is no attribute is an error

    def __init__(self, engine_dir: Union[str, os.PathLike],
                 config: Optional[ExecutorConfig] = None) -> None:
        """Opens the engine and loads the weights. What cannot be honoured is a ValueError,
        FileNotFoundError or MemoryError that says what would work."""
        self._core = _core.Executor(os.fspath(engine_dir),
                                    resolve(ExecutorConfig() if config is None else config))
        _open.add(self)

    def __enter__(self) -> "Executor":
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    def enqueue(self, request: Request) -> int:
        """Queues a request and returns its id at once."""
        return self._core.enqueue([request])[0]

    def enqueue_all(self, requests: Iterable[Request]) -> list[int]:
        """The same for several, in one step."""
        return self._core.enqueue(list(requests))

    @overload
    def await_responses(self, ids: Optional[int] = None,
                        timeout: Timeout = None) -> list[Response]: ...

    @overload
    def await_responses(self, ids: Sequence[int],
                        timeout: Timeout = None) -> list[list[Response]]: ...

    def await_responses(self, ids=None, timeout=None):
        """Takes the responses that are ready, waiting until there is one; empty after `timeout`.

        Of all requests; of the one with the id `ids`; or, for a list or an array of ids, a list for
        each of them, within `timeout` altogether. Ctrl-C loses none: what was taken by then comes
        again.
        """
        return self._await(ids, timeout, make_response)

    def _await(self, ids, timeout, make):
        """The same, of what `make` makes of a response's fields."""
        timeout_ms = _milliseconds(timeout)
        several = _is_several(ids)
        taken: list[list[tuple]] = []
        try:
            if ids is None:
                taken.append([])
                self._core.await_any(timeout_ms, taken[0])
            else:
                wanted = [_request_id(one) for one in (ids if several else [ids])]
                self._core.await_each(wanted, timeout_ms, taken)
            lists = [[make(fields) for fields in responses] for responses in taken]
            return lists if several else lists[0]
        except BaseException:
            self._core.put_back([fields for responses in taken for fields in responses])
            raise

    def _await_into(self, arrived: "collections.deque[tuple]", timeout: Timeout) -> None:
        """Adds the fields of what comes of all requests to `arrived`, where Ctrl-C leaves them."""
        self._core.await_any(_milliseconds(timeout), arrived)

    def _check_process(self) -> None:
        """ValueError in a forked child."""
        self._core.check_process()

    def _check_may_wait(self) -> None:
        """ValueError in a logits processor of this executor."""
        try:
            self._core.responses_ready(None)
        except ValueError:  # shut down: no processor runs any more
            return
        self._core.await_each([_NO_REQUEST], 0, [])

    def responses_ready(self, request_id: Optional[int] = None) -> int:
        """Responses that can be taken without waiting: of one request, or of all."""
        wanted = None if request_id is None else _request_id(request_id)
        return self._core.responses_ready(wanted)

    def cancel(self, request_id: int) -> None:
        """Ends a request before its next token. Nothing happens if it has ended already."""
        self._core.cancel(_request_id(request_id))

    def can_enqueue(self) -> bool:
        """Whether enqueue() is still open."""
        return self._core.can_enqueue()

    def shutdown(self) -> None:
        """Ends everything; requests in flight end with an error response."""
        self._core.shutdown()
        _open.discard(self)

    @property
    def gpu_weights_percent(self) -> float:
        """The share of the weights in fast memory. Setting it changes it between two passes: requests
        in flight go on and get the same tokens."""
        return self._core.gpu_weights_percent

    @gpu_weights_percent.setter
    def gpu_weights_percent(self, percent: float) -> None:
        if not isinstance(percent, numbers.Real):
            hint = ' ("auto" is for opening)' if percent == "auto" else ""
            raise TypeError(f"[executor] gpu_weights_percent cannot be set to {percent!r}: use a "
                            f"number from 0.0 to 1.0{hint}")
        self._core.gpu_weights_percent = percent

    def latest_iteration_stats(self) -> list[IterationStats]:
        """Stats of the passes since the last call, oldest first."""
        return [make_iteration_stats(fields) for fields in self._core.latest_iteration_stats()]

    def latest_request_stats(self) -> list[RequestStatsOfIteration]:
        """Stats of the requests in the passes since the last call, oldest first."""
        return [make_request_stats(fields) for fields in self._core.latest_request_stats()]

    @property
    def vocab_size(self) -> int:
        """Of the engine's model."""
        return self._core.vocab_size()

    @property
    def max_sequence_tokens(self) -> int:
        """Tokens of prompt and output that one request can have, beside the least weights."""
        return self._core.max_sequence_tokens()
