"""How long PostgreSQL is waited for. A server that is there and hangs says nothing and ends no connection.

`PatientConnection` gives it up in the end; `Asking` is for who must know sooner that there is no answer.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

import psycopg

T = TypeVar("T")


class SilentError(psycopg.OperationalError):
    """The server said nothing for too long. The connection is closed; what it was asked may yet happen."""


class Silence:
    """Watches one answer that is waited for."""

    def __init__(self, connection: psycopg.pq.abc.PGconn, seconds: float) -> None:
        self._connection = connection
        self._seconds = seconds
        self._since = time.monotonic()

    def heard(self, something: object) -> None:
        """To be told after every look whether something came. Raises SilentError."""
        now = time.monotonic()
        if something:
            self._since = now
        elif now - self._since > self._seconds:
            self._connection.finish()
            raise SilentError(f"the server has not answered for {self._seconds:g} s")


class PatientConnection(psycopg.Connection[Any]):
    """A connection that waits at most `seconds` for a server that says nothing."""

    seconds: float = math.inf

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **kwargs: Any) -> T:
        """As psycopg's. Raises SilentError."""
        return super().wait(self._bounded(gen), *args, **kwargs)

    def _bounded(self, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        silence = Silence(self.pgconn, self.seconds)
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                silence.heard(ready)
                wanted = gen.send(ready)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


class Asking(Generic[T]):
    """A question that may get no answer, asked by one thread of its own at a time."""

    def __init__(self, ask: Callable[[], T]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._asked: Future[T] | None = None
        self._since = 0.0

    @property
    def lasts(self) -> float:
        """For how many seconds it has been asked without an answer; 0 when it is not being asked."""
        with self._lock:
            return time.monotonic() - self._since if self._asked and not self._asked.done() else 0.0

    def answer(self, seconds: float) -> T:
        """What is answered, or the error that it raises. Raises TimeoutError after `seconds`: the question goes on, and
        whoever comes meanwhile waits for the same answer.
        """
        with self._lock:
            fresh = self._asked is None or self._asked.done()
            if fresh:
                self._asked, self._since = Future(), time.monotonic()
            asked = self._asked
        assert asked
        if fresh:
            try:
                threading.Thread(target=self._settle, args=(asked,), name="asking", daemon=True).start()
            except RuntimeError:  # no thread to be had: then in this one
                self._settle(asked)
        return asked.result(seconds)

    def _settle(self, asked: Future[T]) -> None:
        try:
            asked.set_result(self._ask())
        except BaseException as error:  # or it would be waited for for ever
            asked.set_exception(error)
