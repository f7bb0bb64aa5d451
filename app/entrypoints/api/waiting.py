"""Requests that wait for somebody else's server: so many at once, and no more.

A receiver that hangs holds a request thread for as long as its timeout. A quarter of a process's threads may be held
so; the others go on answering everybody else.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from app.errors import RequestError

RETRY_SECONDS = 5


class BusyError(RequestError):
    """As many requests as may wait do so already. `retry_after`: seconds."""

    status = 503
    code = "busy"
    retry_after = RETRY_SECONDS


class Waiting:
    """The places of one process: a quarter of `threads`, at least one."""

    def __init__(self, threads: int) -> None:
        self._places = threading.Semaphore(max(1, threads // 4))

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold one of the places for the block. Raises BusyError when there is none."""
        if not self._places.acquire(blocking=False):
            raise BusyError("Too many tests wait for their receivers just now; see Retry-After.")
        try:
            yield
        finally:
            self._places.release()
