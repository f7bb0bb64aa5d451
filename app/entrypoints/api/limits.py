"""Rate limits: how many requests of a group somebody may make in a window of time.

Every request takes the next position of its window, and those beyond the limit are refused. Web processes share the
positions through Redis, where there is one: each takes a block of them (half a percent of the limit) in one round
trip and hands them out itself, so that most requests cost none. What a process does not use of its last block is
lost: a limit may be reached by so much too early, never too late. When Redis is away each process counts for itself
for a while: a request is never lost for want of a counter. The windows are cut by the clock.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from redis import Redis
from redis.exceptions import RedisError

from app.config import Settings

GROUPS = ("write", "events", "send", "read", "public", "callbacks")
LOGIN = "login"  # failed log-ins: the rate of "public", counted apart
_SECONDS = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400}
_REDIS_AWAY_SECONDS = 5.0
_BLOCKS = 200  # a process takes a 200th of a limit at a time

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Standing:
    """How somebody stands in their window: `reset` is seconds until the next one begins."""

    limit: int
    remaining: int
    reset: int
    exceeded: bool


class RateLimiter:
    """Counts requests by group and identity (API key, person or address)."""

    def __init__(self, settings: Settings, now: Callable[[], float] = time.time) -> None:
        self._rates = {group: _parsed(getattr(settings, f"rate_limit_{group}")) for group in GROUPS}
        self._rates[LOGIN] = self._rates["public"]
        self._positions = _Positions()
        url = settings.redis_url
        self._redis = Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1) if url else None
        self._away_until = 0.0
        self._now = now

    def hit(self, group: str, identity: str) -> Standing:
        """Count one request, and say how things stand with it."""
        amount, period = self._rates[group]
        window = int(self._now() // period)
        position = self._positions.next(group, identity, window)
        if position is None:
            block = max(1, amount // _BLOCKS)
            end = self._shared_end(f"tidings:limit:{group}:{identity}:{window}", period, block)
            position = self._positions.lease(group, identity, window, block, end)
        return self._standing(amount, period, window, position, exceeded=position > amount)

    def _standing(self, amount: int, period: int, window: int, position: int, *, exceeded: bool) -> Standing:
        reset = max(1, math.ceil((window + 1) * period - self._now()))
        return Standing(amount, max(0, amount - position), reset, exceeded)

    def _shared_end(self, key: str, period: int, block: int) -> int | None:
        """Take a block of positions for this process: its last one. None when there is no Redis, or it is away."""
        if self._redis is None or time.monotonic() < self._away_until:
            return None
        try:
            with self._redis.pipeline(transaction=False) as both:
                both.incrby(key, block)
                both.expire(key, period + 1)
                return int(both.execute()[0])
        except (RedisError, OSError) as error:
            self._away_until = time.monotonic() + _REDIS_AWAY_SECONDS
            log.warning("rate_limits_count_alone", error=type(error).__name__)
            return None


class _Positions:
    """The positions that this process may hand out: {identity: (last given, last of the block)} of each group.

    A group's are thrown away when its window is over.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._windows: dict[str, int] = {}
        self._given: dict[str, dict[str, tuple[int, int]]] = {}

    def next(self, group: str, identity: str, window: int) -> int | None:
        """The next position; None when the block is used up."""
        with self._lock:
            given, end = self._of(group, window).get(identity, (0, 0))
            if given >= end:
                return None
            self._given[group][identity] = (given + 1, end)
            return given + 1

    def lease(self, group: str, identity: str, window: int, block: int, end: int | None) -> int:
        """Go on with the block that ends at `end`, or with None where we are; returns its first position."""
        with self._lock:
            known = self._of(group, window)
            end = known.get(identity, (0, 0))[0] + block if end is None else end
            known[identity] = (end - block + 1, end)
            return end - block + 1

    def _of(self, group: str, window: int) -> dict[str, tuple[int, int]]:
        if self._windows.get(group) != window:
            self._windows[group], self._given[group] = window, {}
        return self._given[group]


def _parsed(rate: str) -> tuple[int, int]:
    """`600 per minute` -> (600, 60). Settings have refused any other form."""
    amount, _, unit = rate.partition(" per ")
    return int(amount), _SECONDS[unit]
