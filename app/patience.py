"""How long PostgreSQL is waited for. A server that is there and hangs says nothing and ends no connection."""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from typing import Any, TypeVar

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
