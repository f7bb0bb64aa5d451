"""How many threads of this process one channel and one tenant may hold, so that slow ones leave room for the others."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from weakref import WeakKeyDictionary

from app.core.deliveries import alarms
from app.core.outbox import Job, Lane
from app.core.runtime import Runtime
from app.db import Database
from providers.contract import Channel

QUICK = Channel.IN_APP  # never waits for anybody outside
_PASS_ON_SECONDS = 0.1
_SHUT_OUT_SECONDS = 30.0  # so long somebody who was turned away is thought to wait still
ALONE_SECONDS = 60.0  # a try that hangs keeps suspects waiting no longer than this


@dataclass(slots=True)
class _House:
    """The threads of one service in this process: who holds them, and who was turned away."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    # (lane, channel), (lane, channel, tenant), …; "*": all that are slow
    inside: Counter[tuple[str, ...]] = field(default_factory=Counter)
    turned_away: dict[tuple[Lane, str, str], float] = field(default_factory=dict)  # (lane, channel, tenant): when
    since: dict[tuple[object, str], float] = field(default_factory=dict)  # (room, channel): since when
    alone: tuple[object, float] | None = None  # the room that tries a suspect, and until when it is waited for


_houses: WeakKeyDictionary[Database, _House] = WeakKeyDictionary()
_houses_lock = threading.Lock()


def _house(runtime: Runtime) -> _House:
    with _houses_lock:
        return _houses.setdefault(runtime.db, _House())


@dataclass(frozen=True, slots=True)
class Limits:
    """How many threads of a lane may be held by: one channel, one tenant on it; all slow channels, one tenant of them.

    One thread is never held by those that wait for others' servers: the bell goes on whatever hangs.
    """

    channel: int
    tenant_on_channel: int
    slow: int
    tenant_slow: int

    @classmethod
    def of(cls, threads: int) -> Limits:
        """Those of a lane with so many threads. With few there is nothing to share out."""
        channel, slow = max(1, (threads + 1) // 2), max(1, threads - 1)
        return cls(channel, max(1, channel - 1), slow, max(1, slow - 1))


def longest_hold(runtime: Runtime) -> float:
    """For how many seconds the oldest batch in this process has been under way; 0 if there is none."""
    house = _house(runtime)
    with house.lock:
        return time.monotonic() - min(house.since.values()) if house.since else 0.0


class Room:
    """The channels on which one job may send, each for one tenant. See `Limits`.

    Nobody waits to enter: what is turned away stays in its row, and is rung for when somebody gives room back.
    Leaving the block gives back what is left.
    """

    def __init__(self, runtime: Runtime, lane: Lane) -> None:
        self._runtime = runtime
        self._lane = lane
        self._limits = Limits.of(runtime.settings.lanes.get(lane, 1))
        self._entered: dict[str, str] = {}
        self._house = _house(runtime)
        self._name = object()  # in the house's book, which outlives the room

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for channel in list(self._entered):
            self.give_back(channel)
        if self.leave_alone():
            self._runtime.bell.ring(Job.DELIVER, self._lane)

    def has_space(self, channel: str) -> bool:
        """Whether anybody's batch of this channel could be sent now."""
        slow = channel == QUICK or self._house.inside[self._lane, "*"] < self._limits.slow
        return slow and self._house.inside[self._lane, channel] < self._limits.channel

    def enter(self, channel: str, tenant_id: str) -> bool:
        """Whether a batch of this channel and tenant may be sent now. Who has entered is let in again."""
        if self._entered.get(channel) == tenant_id:
            return True
        house = self._house
        with house.lock:
            if self.has_space(channel) and self._is_fair(channel, tenant_id):
                house.inside.update(self._places(channel, tenant_id))
                self._entered[channel] = tenant_id
                house.since[self._name, channel] = time.monotonic()
                house.turned_away.pop((self._lane, channel, tenant_id), None)
                return True
            house.turned_away[self._lane, channel, tenant_id] = time.monotonic()
        if self._runtime.settings.redis_url:  # another process may have room: it has to hear of it too
            alarms.ring_in(self._runtime, self._lane, _PASS_ON_SECONDS)
        return False

    def give_back(self, channel: str) -> None:
        """The batch of this channel has ended, or there was none. Whoever was turned away meanwhile is rung for."""
        tenant_id = self._entered.pop(channel, None)
        if tenant_id is None:
            return
        house = self._house
        with house.lock:
            house.since.pop((self._name, channel), None)
            house.inside.subtract(self._places(channel, tenant_id))
            for place in self._places(channel, tenant_id):
                if house.inside[place] <= 0:
                    del house.inside[place]
            missed = [place for place in house.turned_away if place[0] == self._lane]
            for place in missed:  # they are rung for; who is turned away again says so again
                del house.turned_away[place]
        if missed:
            self._runtime.bell.ring(Job.DELIVER, self._lane)

    def enter_alone(self) -> bool:
        """Whether a suspect may be tried now: one at a time in a process.

        One that kills its process must not take another with it, for which that might be the last loss.
        """
        now, house = time.monotonic(), self._house
        with house.lock:
            if house.alone is not None and house.alone[1] > now:
                return False
            house.alone = (self._name, now + ALONE_SECONDS)
            return True

    def leave_alone(self) -> bool:
        """Another suspect may be tried. False: this job tried none."""
        house = self._house
        with house.lock:
            if house.alone is None or house.alone[0] is not self._name:
                return False
            house.alone = None
            return True

    def is_wanted(self, channel: str) -> bool:
        """Whether another tenant was turned away from this channel, and has not had its turn since."""
        mine, away = self._entered.get(channel), self._house.turned_away
        if mine is None or not away:
            return False
        now = time.monotonic()
        with self._house.lock:
            for place in [place for place, at in away.items() if now - at > _SHUT_OUT_SECONDS]:
                del away[place]
            return any(place[:2] == (self._lane, channel) and place[2] != mine for place in away)

    def _is_fair(self, channel: str, tenant_id: str) -> bool:
        if self._house.inside[self._lane, channel, tenant_id] >= self._limits.tenant_on_channel:
            return False
        return channel == QUICK or self._house.inside[self._lane, "*", tenant_id] < self._limits.tenant_slow

    def _places(self, channel: str, tenant_id: str) -> list[tuple[str, ...]]:
        slow: list[tuple[str, ...]] = [] if channel == QUICK else [(self._lane, "*"), (self._lane, "*", tenant_id)]
        return [(self._lane, channel), (self._lane, channel, tenant_id), *slow]
