"""How many threads of this process one channel may hold, so that a slow one leaves room for the others."""

from __future__ import annotations

import threading
from collections import Counter
from types import TracebackType
from typing import Self

from app.core.outbox import Job, Lane
from app.core.runtime import Runtime

_lock = threading.Lock()
_inside: Counter[tuple[Lane, str]] = Counter()
_turned_away: set[tuple[Lane, str]] = set()


def lane_threads(threads: int) -> dict[Lane, int]:
    """How many of a process's threads each lane has: a quarter for what somebody waits for, at least one each."""
    transactional = max(1, threads // 4)
    return {Lane.TRANSACTIONAL: transactional, Lane.NORMAL: max(1, threads - transactional)}


class Room:
    """The channels on which one job may send. Half of a lane's threads may be busy with one channel.

    Nobody waits to enter: what is turned away stays in its row, and is rung for when somebody gives room back.
    Leaving the block gives back what is left.
    """

    def __init__(self, runtime: Runtime, lane: Lane) -> None:
        self._runtime = runtime
        self._lane = lane
        self._limit = max(1, lane_threads(runtime.settings.worker_threads)[lane] // 2)
        self._entered: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for channel in list(self._entered):
            self.give_back(channel)

    def enter(self, channel: str) -> bool:
        """Whether a batch of this channel may be sent now."""
        place = (self._lane, channel)
        with _lock:
            if _inside[place] >= self._limit:
                _turned_away.add(place)
                return False
            _inside[place] += 1
        self._entered.add(channel)
        return True

    def give_back(self, channel: str) -> None:
        """The batch of this channel has ended, or there was none. Whoever was turned away meanwhile is rung for."""
        if channel not in self._entered:
            return
        self._entered.discard(channel)
        place = (self._lane, channel)
        with _lock:
            _inside[place] -= 1
            missed = place in _turned_away
            _turned_away.discard(place)
        if missed:
            self._runtime.bell.ring(Job.DELIVER, self._lane)
