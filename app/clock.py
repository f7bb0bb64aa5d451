"""The time, passed in: whoever needs it is handed a Clock, so that tests can move it."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta


class Clock:
    """The machine's clock. `now()` is aware and in UTC."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class FixedClock(Clock):
    """A clock that stands still until it is moved."""

    def __init__(self, at: datetime) -> None:
        self._at = at
        self._lock = threading.Lock()

    def now(self) -> datetime:
        with self._lock:
            return self._at

    def advance(self, **by: float) -> None:
        """Move on by what `timedelta` takes: `advance(minutes=5)`."""
        with self._lock:
            self._at += timedelta(**by)
