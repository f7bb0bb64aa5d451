"""How many threads of this process one channel may hold, so that a slow one leaves room for the others."""

from __future__ import annotations

import threading
from collections import Counter
from types import TracebackType
from typing import Self

from app.core.deliveries import alarms
from app.core.outbox import Job, Lane
from app.core.runtime import Runtime
from providers.contract import Channel

_lock = threading.Lock()
_inside: Counter[tuple[Lane, str]] = Counter()
_turned_away: set[tuple[Lane, str]] = set()


QUICK = Channel.IN_APP  # never waits for anybody outside
_PASS_ON_SECONDS = 0.1


class Room:
    """The channels on which one job may send. Half of a lane's threads may be busy with one channel.

    One thread is never held by those that wait for others' servers: the bell goes on whatever hangs.

    Nobody waits to enter: what is turned away stays in its row, and is rung for when somebody gives room back.
    Leaving the block gives back what is left.
    """

    def __init__(self, runtime: Runtime, lane: Lane) -> None:
        self._runtime = runtime
        self._lane = lane
        threads = runtime.settings.lanes.get(lane, 1)
        self._limit, self._limit_of_all = max(1, threads // 2), max(1, threads - 1)
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
            waiting = sum(count for (lane, name), count in _inside.items() if lane == self._lane and name != QUICK)
            full = channel != QUICK and waiting >= self._limit_of_all
            if not full and _inside[place] < self._limit:
                _inside[place] += 1
                self._entered.add(channel)
                return True
            _turned_away.add(place)
        if self._runtime.settings.redis_url:  # another process may have room: it has to hear of it too
            alarms.ring_in(self._runtime, self._lane, _PASS_ON_SECONDS)
        return False

    def give_back(self, channel: str) -> None:
        """The batch of this channel has ended, or there was none. Whoever was turned away meanwhile is rung for."""
        if channel not in self._entered:
            return
        self._entered.discard(channel)
        place = (self._lane, channel)
        with _lock:
            _inside[place] -= 1
            missed = {other for other in _turned_away if other[0] == self._lane}
            _turned_away.difference_update(missed)
        if missed:
            self._runtime.bell.ring(Job.DELIVER, self._lane)
