"""What is broken, when, and for how long: one shuffled round of all kinds after the other, from a seed.

A fault begins at its time and ends some seconds later; then it is over for the service to recover from. Faults on
different things overlap.
"""

from __future__ import annotations

import heapq
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, product

import dramatiq
import redis

from app.broker import make_bell
from app.core.outbox import Job, Lane
from bench.chaos import poison, receiver
from bench.chaos.clients import Clients
from bench.chaos.posts import Posts
from bench.chaos.world import RECEIVERS, World

_SPURIOUS = 100  # rings of each kind at once


@dataclass
class Fault:
    """One fault as it happened. Times are seconds since 1970. `killed`: the processes that were ended by it."""

    kind: str
    began_at: float = 0.0
    ended_at: float = 0.0
    killed: list[int] = field(default_factory=list)


class Faults:
    """Runs faults from the thread that calls it: servers die with the thread that started them."""

    def __init__(self, world: World, posts: Posts, clients: Clients, seed: int) -> None:
        self._world = world
        self._posts = posts
        self._clients = clients
        self._chance = random.Random(seed)
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._busy: set[str] = set()
        self._poisons = count(1)
        self.done: list[Fault] = []

    def run(self, seconds: float, every: float, kinds: Iterator[str]) -> None:
        """Begin a fault every so many seconds, until the time or the kinds are over; wait for the last to end."""
        end = time.monotonic() + seconds
        next_at = time.monotonic()
        while time.monotonic() < end or self._queue:
            if next_at <= time.monotonic() < end:
                if (kind := next(kinds, None)) is None:
                    end = 0.0
                    continue
                self._begin(kind)
                next_at = time.monotonic() + every * self._chance.uniform(0.7, 1.3)
            self._end_due()
            time.sleep(0.01)

    def _end_due(self) -> None:
        while self._queue and self._queue[0][0] <= time.monotonic():
            heapq.heappop(self._queue)[2]()
        self._world.keep_running()

    def _begin(self, kind: str) -> None:
        """Begin a fault; one on a thing that is broken just now waits until that is over."""
        thing, seconds, begin = _KINDS[kind]
        while thing in self._busy:
            time.sleep(0.01)
            self._end_due()
        fault = Fault(kind, time.time())
        self.done.append(fault)
        end = begin(self, fault)

        def finish() -> None:
            end()
            fault.ended_at = time.time()
            self._busy.discard(thing)

        self._busy.add(thing)
        lasts = seconds * self._chance.uniform(0.6, 1.4)
        heapq.heappush(self._queue, (time.monotonic() + lasts, next(self._order), finish))

    # Each begins something and answers how it is ended.

    def _kill_one(self, fault: Fault, name: str) -> Callable[[], None]:
        children = self._world.tree(name)[1:]
        return self._kill(fault, self._chance.sample(children, min(1, len(children))))

    def _kill_all(self, fault: Fault, name: str) -> Callable[[], None]:
        fault.killed += self._world.kill_whole(name)
        return lambda: self._world.run(name)

    def _kill_supervisor(self, fault: Fault) -> Callable[[], None]:
        return self._kill(fault, self._world.tree("worker")[:1])

    def _kill(self, fault: Fault, pids: list[int]) -> Callable[[], None]:
        self._world.kill(pids)
        fault.killed += pids
        return _nothing

    def _flush_redis(self, _fault: Fault) -> Callable[[], None]:
        with redis.Redis.from_url(self._world.redis.url) as client:
            client.flushall()
        return _nothing

    def _stop_redis(self, _fault: Fault) -> Callable[[], None]:
        self._world.stop_redis()
        return self._world.start_redis

    def _stop_postgres(self, how: signal.Signals) -> Callable[[], None]:
        self._world.stop_postgres(how)
        return self._world.start_postgres

    def _break_receivers(self, mode: str) -> Callable[[], None]:
        chosen = self._chance.sample(RECEIVERS, self._chance.randint(1, len(RECEIVERS)))
        for kind in chosen:
            self._world.control.order(kind, mode)

        def mend() -> None:
            for kind in chosen:
                self._world.control.order(kind, receiver.OK)

        return mend

    def _ring_much(self, _fault: Fault) -> Callable[[], None]:
        """Rings that nobody has a reason for, past the flag that keeps doubles out of the queue."""
        broker = make_bell(self._world.redis.url).broker
        for lane in Lane:
            broker.declare_queue(lane.value)
        for _, lane, job in product(range(_SPURIOUS), Lane, Job):
            broker.enqueue(dramatiq.Message(lane.value, job.value, (lane.value,), {}, {}))
        broker.close()
        return _nothing

    def _lose_rings(self, _fault: Fault) -> Callable[[], None]:
        self._world.control.order("lose", True)
        return lambda: self._world.control.order("lose", False)

    def _shift_clock(self, sign: int) -> Callable[[], None]:
        topic = f"clock-{self._chance.randint(0, 1)}"
        self._world.control.order(topic, sign * self._chance.randint(120, 280))
        return lambda: self._world.control.order(topic, 0)

    def _poison(self, marker: str) -> Callable[[], None]:
        address = f"{marker}-{next(self._poisons)}"
        self._clients.post_aside(self._posts.poisoned(address))
        return _nothing


def _nothing() -> None:
    """There is nothing to mend: that is the service's own work."""


_Begin = Callable[[Faults, Fault], Callable[[], None]]
# {kind: (the thing that it breaks, about how many seconds it lasts, how it begins)}
_KINDS: dict[str, tuple[str, float, _Begin]] = {
    "worker killed": ("worker", 0, lambda faults, fault: faults._kill_one(fault, "worker")),
    "all workers killed": ("worker", 1, lambda faults, fault: faults._kill_all(fault, "worker")),
    "supervisor killed": ("worker", 0, lambda faults, fault: faults._kill_supervisor(fault)),
    "web process killed": ("web", 0, lambda faults, fault: faults._kill_one(fault, "web")),
    "all web killed": ("web", 1, lambda faults, fault: faults._kill_all(fault, "web")),
    "Redis flushed": ("redis", 0, lambda faults, fault: faults._flush_redis(fault)),
    "Redis restarted": ("redis", 3, lambda faults, fault: faults._stop_redis(fault)),
    "PostgreSQL immediate": ("postgres", 1.5, lambda faults, _: faults._stop_postgres(signal.SIGQUIT)),
    "PostgreSQL fast": ("postgres", 1.5, lambda faults, _: faults._stop_postgres(signal.SIGINT)),
    "rings doubled, spurious": ("redis", 0, lambda faults, fault: faults._ring_much(fault)),
    "every second ring lost": ("rings", 5, lambda faults, fault: faults._lose_rings(fault)),
    "clock ahead": ("clock", 5, lambda faults, _: faults._shift_clock(1)),
    "clock behind": ("clock", 5, lambda faults, _: faults._shift_clock(-1)),
    "row that kills": ("poison", 0, lambda faults, _: faults._poison(poison.KILL)),
    "row that hangs": ("poison", 0, lambda faults, _: faults._poison(poison.HANG)),
    "row that fails late": ("poison", 0, lambda faults, _: faults._poison(poison.LATE)),
} | {
    f"receiver {mode.replace('_', '-')}": ("receivers", 4, lambda faults, _, mode=mode: faults._break_receivers(mode))
    for mode in receiver.MODES
    if mode != receiver.OK
}
KINDS = tuple(_KINDS)


def rounds(seed: int, kinds: Sequence[str] = KINDS) -> Iterator[str]:
    """All kinds in a shuffled order, then all in another, for ever."""
    chance = random.Random(seed)
    while True:
        yield from chance.sample(kinds, len(kinds))
