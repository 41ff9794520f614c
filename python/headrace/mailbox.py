"""Responses of one executor, sorted by request, for threads that each wait for their own."""

from __future__ import annotations

import collections
import threading
from typing import Iterator, Sequence

from .executor import Executor
from .options import Request
from .responses import Response, make_response

_SLICE_S = 0.05


class Mailbox:
    """Whoever waits takes what comes for everybody; the others sleep meanwhile. Thread-safe, and
    Ctrl-C in one thread loses nothing of the others. In a forked child, which may have inherited it
    locked, every call raises ValueError."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._changed = threading.Condition()
        self._collecting = False
        self._arrived: collections.deque[tuple] = collections.deque()  # not sorted yet
        self._boxes: dict[int, collections.deque[tuple]] = {}

    def enqueue(self, requests: Sequence[Request]) -> list[int]:
        """Queues requests and keeps their responses from now on; those of others are dropped."""
        self._executor._check_process()
        with self._changed:  # nobody sorts a response before its box is there
            ids = self._executor.enqueue_all(requests)
            for request_id in ids:
                self._boxes[request_id] = collections.deque()
            return ids

    def close(self, ids: Sequence[int]) -> None:
        """Nobody waits for these any more."""
        self._executor._check_process()
        with self._changed:
            for request_id in ids:
                self._boxes.pop(request_id, None)

    def wait(self, ids: Sequence[int]) -> Iterator[Response]:
        """Responses of these requests, at least one."""
        self._executor._check_process()
        while True:
            collects = False
            try:  # wherever Ctrl-C comes, another thread can collect afterwards
                with self._changed:
                    self._sort()
                    ready = [box.popleft() for box in map(self._boxes.__getitem__, ids) if box]
                    if ready:
                        return map(make_response, ready)
                    if self._collecting:
                        self._executor._check_may_wait()  # whoever collects cannot end that
                        self._changed.wait(_SLICE_S)
                        continue
                    collects = self._collecting = True
                self._collect()
            finally:
                if collects:
                    self._collecting = False

    def _collect(self) -> None:
        try:
            self._executor._await_into(self._arrived, timeout=_SLICE_S)
        except ValueError:
            if self._executor.can_enqueue():
                raise
            raise ValueError("[executor] Shutdown called: the request was not finished") from None

    def _sort(self) -> None:
        """Puts what has arrived into the boxes. Where it is interrupted, the next call goes on."""
        if self._arrived:
            self._changed.notify_all()
        while self._arrived:
            fields = self._arrived[0]
            box = self._boxes.get(fields[0])
            if box is not None and not (box and box[-1] is fields):
                box.append(fields)
            self._arrived.popleft()
