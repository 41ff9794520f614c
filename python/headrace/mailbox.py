"""Responses of one executor, sorted by request, for threads that each wait for their own."""

from __future__ import annotations

import collections
import threading
from typing import Iterator, Sequence

from .executor import Executor
from .options import Request
from .responses import Response

_SLICE_S = 0.05


class Mailbox:
    """Whoever waits takes what comes for everybody; the others sleep meanwhile. Thread-safe."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._changed = threading.Condition()
        self._collecting = False
        self._boxes: dict[int, collections.deque[Response]] = {}

    def enqueue(self, requests: Sequence[Request]) -> list[int]:
        """Queues requests and keeps their responses from now on; those of others are dropped."""
        with self._changed:  # nobody sorts a response before its box is there
            ids = self._executor.enqueue_all(requests)
            for request_id in ids:
                self._boxes[request_id] = collections.deque()
            return ids

    def close(self, ids: Sequence[int]) -> None:
        """Nobody waits for these any more."""
        with self._changed:
            for request_id in ids:
                self._boxes.pop(request_id, None)

    def wait(self, ids: Sequence[int]) -> Iterator[Response]:
        """Responses of these requests, at least one."""
        while True:
            collects = False
            responses: list[Response] = []
            try:  # wherever Ctrl-C comes, another thread can collect afterwards
                with self._changed:
                    ready = [box.popleft() for box in map(self._boxes.__getitem__, ids) if box]
                    if ready:
                        return iter(ready)
                    if self._collecting:
                        self._changed.wait(_SLICE_S)
                        continue
                    collects = self._collecting = True
                responses = self._executor.await_responses(timeout=_SLICE_S)
            finally:
                if collects:
                    self._deliver(responses)

    def _deliver(self, responses: list[Response]) -> None:
        with self._changed:
            self._collecting = False
            for response in responses:
                box = self._boxes.get(response.request_id)
                if box is not None:
                    box.append(response)
            self._changed.notify_all()
