"""How long 50 ms and a commit take on this machine, all the while: the measure of what a kill may leave unwritten.

It knows nothing of the product. On a machine whose cores are all busy, or whose PostgreSQL is away, a beat takes long,
and so does the writing of results.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

import psycopg

from app.core.deliveries.recorder import FLUSH_SECONDS

_TABLE = "CREATE TABLE IF NOT EXISTS chaos_pulse (at timestamptz)"
_BEAT = "INSERT INTO chaos_pulse VALUES (now())"


class Pulse:
    """Beats from `start` to `stop`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)
        self._beats: list[tuple[float, float]] = []

    def start(self) -> None:
        """Begin to measure."""
        self._thread.start()

    def stop(self) -> None:
        """Measure no more."""
        self._stopping.set()
        self._thread.join()

    def longest(self, since: float, until: float) -> float:
        """Seconds of the longest beat that lay at least partly between these times (seconds since 1970)."""
        return max((end - begin for begin, end in self._beats if begin <= until and end >= since), default=0.0)

    def _run(self) -> None:
        connection: Any = None
        while not self._stopping.is_set():
            begin = time.time()
            self._stopping.wait(FLUSH_SECONDS)
            while not self._stopping.is_set():
                try:
                    connection = connection or self._connect()
                    connection.execute(_BEAT)
                    break
                except psycopg.OperationalError:  # away: the beat lasts until it is back
                    with contextlib.suppress(psycopg.Error, AttributeError):
                        connection.close()
                    connection = None
                    time.sleep(FLUSH_SECONDS)
            self._beats.append((begin, time.time()))

    def _connect(self) -> Any:
        connection = psycopg.connect(self._url, autocommit=True, connect_timeout=2)
        connection.execute(_TABLE)
        return connection
