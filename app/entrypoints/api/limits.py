"""Rate limits: how many requests of a group somebody may make in a window of time.

Counted in Redis where there is one, so that all web processes count together, else in memory. When Redis is away
each process counts for itself for a while: a request is never lost for want of a counter. The windows are cut by
the clock, so that one increment tells everything the headers say.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import structlog
from limits import RateLimitItem, parse
from limits.storage import MemoryStorage, Storage, storage_from_string
from redis.exceptions import RedisError

from app.config import Settings

GROUPS = ("write", "events", "send", "read", "public", "callbacks")
_REDIS_AWAY_SECONDS = 5.0

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

    def __init__(self, settings: Settings) -> None:
        self._items: dict[str, RateLimitItem] = {
            group: parse(getattr(settings, f"rate_limit_{group}")) for group in GROUPS
        }
        self._memory = MemoryStorage()
        self._shared: Storage | None = _shared_storage(settings.redis_url)
        self._away_until = 0.0

    def hit(self, group: str, identity: str, cost: int = 1) -> Standing:
        """Count one request, and say how things stand. `cost` 0 only looks."""
        item = self._items[group]
        period = item.get_expiry()
        now = time.time()
        window = int(now // period)
        key = f"tidings:limit:{group}:{identity}:{window}"
        count = self._count(key, period, cost)
        reset = max(1, int((window + 1) * period - now + 0.999))
        exceeded = count > item.amount if cost else count >= item.amount
        return Standing(item.amount, max(0, item.amount - count), reset, exceeded)

    def _count(self, key: str, period: int, cost: int) -> int:
        if self._shared is not None and time.monotonic() >= self._away_until:
            try:
                return self._shared.incr(key, period, cost) if cost else self._shared.get(key)
            except (RedisError, OSError) as error:
                self._away_until = time.monotonic() + _REDIS_AWAY_SECONDS
                log.warning("rate_limits_count_alone", error=type(error).__name__)
        return self._memory.incr(key, period, cost) if cost else self._memory.get(key)


def _shared_storage(redis_url: str) -> Storage | None:
    if not redis_url:
        return None
    url = redis_url.replace("unix://", "redis+unix://", 1) if redis_url.startswith("unix://") else redis_url
    return storage_from_string(url, socket_timeout=1, socket_connect_timeout=1)  # type: ignore[return-value]
