"""The queue: Dramatiq, as a doorbell. In-memory when embedded, Redis in production.

A message says (job, lane) and nothing else. At most one unanswered ring per job and lane is in flight.
"""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Protocol

import dramatiq
import structlog
from dramatiq.brokers.redis import RedisBroker
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import ShutdownNotifications, TimeLimit
from redis import Redis
from redis.exceptions import RedisError

from app.metrics import RINGS_FAILED

_UNANSWERED_MS = 5_000  # a ring that was lost is no longer waited for after this

_WAIT_SECONDS = 5.0  # for an answer of Redis
QUIET_SECONDS = 2.0  # after the queue was found away
_BETWEEN_RINGS_SECONDS = 0.008  # a ring costs some 300 µs: what is wanted meanwhile is rung for together
IDLE_SECONDS = 1.0  # how often an idle consumer asks although nobody woke it
_WAKE_CHANNEL = "tidings:wake"

log = structlog.get_logger()


class _Flags(Protocol):
    """Remembers which rings are not answered yet."""

    def raise_flag(self, name: str) -> bool: ...
    def lower(self, name: str) -> None: ...
    def is_raised(self, name: str) -> bool: ...


class _LocalFlags:
    def __init__(self) -> None:
        self._raised: dict[str, float] = {}
        self._lock = threading.Lock()

    def raise_flag(self, name: str) -> bool:
        now = time.monotonic()
        with self._lock:
            if now - self._raised.get(name, -_UNANSWERED_MS) < _UNANSWERED_MS / 1000:
                return False
            self._raised[name] = now
            return True

    def lower(self, name: str) -> None:
        with self._lock:
            self._raised.pop(name, None)

    def is_raised(self, name: str) -> bool:
        with self._lock:
            return time.monotonic() - self._raised.get(name, -_UNANSWERED_MS) < _UNANSWERED_MS / 1000


class _RedisFlags:
    def __init__(self, client: Redis) -> None:
        self._client = client

    def raise_flag(self, name: str) -> bool:
        return bool(self._client.set(f"tidings:ring:{name}", "1", nx=True, px=_UNANSWERED_MS))

    def lower(self, name: str) -> None:
        self._client.delete(f"tidings:ring:{name}")

    def is_raised(self, name: str) -> bool:
        return bool(self._client.exists(f"tidings:ring:{name}"))


class WakingBroker(RedisBroker):
    """Dramatiq's Redis broker, whose idle consumers wait to be woken instead of asking every few milliseconds.

    A ring is also published; every worker process listens and asks at once. A published word that is lost costs
    `IDLE_SECONDS`. So an idle worker hears a ring within a millisecond or two and spends next to nothing.
    """

    def __init__(self, url: str, **options: Any) -> None:
        # Its own way from an address to a client forgets how long the client may wait.
        client = Redis.from_url(url, socket_timeout=_WAIT_SECONDS, socket_connect_timeout=_WAIT_SECONDS)
        super().__init__(client=client, **options)  # type: ignore[no-untyped-call]
        self.url = url
        self._wakes: defaultdict[str, threading.Event] = defaultdict(threading.Event)
        self._listener: threading.Thread | None = None
        self._closed = False

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Any:  # noqa: ARG002
        """As Dramatiq's, but the consumer's own pause is none: `do_fetch` waits in its place."""
        if self._listener is None:
            self._listener = threading.Thread(target=self._listen, name="bell", daemon=True)
            self._listener.start()
        return super().consume(queue_name, prefetch, 1)

    def do_fetch(self, queue_name: str, prefetch: int) -> list[bytes]:
        """What waits in a queue; if nothing does, what has come by the time of a ring or of IDLE_SECONDS."""
        wake, fetch = self._wakes[queue_name], self._dispatch("fetch")  # type: ignore[no-untyped-call]
        wake.clear()
        found: list[bytes] = fetch(queue_name, prefetch)
        if not found and wake.wait(IDLE_SECONDS):
            found = fetch(queue_name, prefetch)
        return found

    def publish(self, queue_name: str) -> None:
        """Wake the consumers of a queue in every process."""
        self.client.publish(_WAKE_CHANNEL, queue_name)

    def close(self) -> None:
        """Listen no more, and give the connections back."""
        self._closed = True
        with suppress(RedisError):
            self.publish("")  # so that the listener hears of it
        # What is in use just now is for whoever uses it to end.
        self.client.connection_pool.disconnect(inuse_connections=False)

    def _listen(self) -> None:
        with Redis.from_url(self.url, socket_connect_timeout=2, health_check_interval=15) as client:
            while not self._closed:
                try:
                    self._hear(client)
                except RedisError as error:
                    log.warning("bell_is_deaf", error=type(error).__name__)
                    time.sleep(IDLE_SECONDS)

    def _hear(self, client: Redis) -> None:
        with client.pubsub(ignore_subscribe_messages=True) as heard:  # type: ignore[no-untyped-call]
            heard.subscribe(_WAKE_CHANNEL)
            for message in heard.listen():
                self._wakes[message["data"].decode()].set()
                if self._closed:
                    return


class _Ringer:
    """Rings from a thread of its own: whoever wants it does not wait, and those who want the same share one ring."""

    def __init__(self, ring: Callable[[str, str], bool]) -> None:
        self._ring = ring
        self._wanted: set[tuple[str, str]] = set()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._of_process = 0
        self._closed = False

    def close(self) -> None:
        """Ring no more."""
        self._closed = True
        self._wake.set()

    def want(self, job: str, lane: str) -> None:
        with self._lock:
            if (job, lane) in self._wanted:
                return
            self._wanted.add((job, lane))
            if self._of_process != os.getpid():  # threads do not survive a fork
                self._of_process = os.getpid()
                threading.Thread(target=self._run, name="ringer", daemon=True).start()
        self._wake.set()

    def _run(self) -> None:
        while self._wake.wait() and not self._closed:
            self._wake.clear()
            with self._lock:
                wanted, self._wanted = self._wanted, set()
            for job, lane in sorted(wanted):
                self._ring(job, lane)
            time.sleep(_BETWEEN_RINGS_SECONDS)


class Bell:
    """Rings for workers, and takes note when one is heard. Never raises: the sweep finds what a lost ring leaves."""

    def __init__(self, broker: dramatiq.Broker, flags: _Flags) -> None:
        self.broker = broker
        self._flags = flags
        self._dumb_until = 0.0
        self._ringer = _Ringer(self.ring) if isinstance(broker, WakingBroker) else None

    def close(self) -> None:
        """Give back threads and connections; for those who neither ring nor hear any more."""
        if self._ringer:
            self._ringer.close()
        self.broker.close()

    def ring_soon(self, job: str, lane: str) -> None:
        """As `ring`, but nobody waits for Redis, and rings that are wanted together are one."""
        if self._ringer:
            self._ringer.want(job, lane)
        else:
            self.ring(job, lane)

    def ring(self, job: str, lane: str) -> bool:
        """Tell one worker that `job` has something to do in `lane`, unless one is being told already.

        False: the queue is away. It is not asked again for some seconds, so that requests do not wait for it.
        """
        name = f"{job}:{lane}"
        if time.monotonic() < self._dumb_until:
            return False
        try:
            if self._flags.raise_flag(name):
                message = self.broker.get_actor(job).message(lane)
                self.broker.enqueue(message.copy(queue_name=lane))
                if isinstance(self.broker, WakingBroker):
                    self.broker.publish(lane)
        except (RedisError, dramatiq.DramatiqError) as error:
            self._dumb_until = time.monotonic() + QUIET_SECONDS
            RINGS_FAILED.inc()
            log.warning("ring_failed", job=job, lane=lane, error=type(error).__name__)
            return False
        return True

    def is_ringing(self, job: str, lane: str) -> bool:
        """Whether somebody rang a moment ago and was not heard yet. Unknown, with the queue away, counts as yes."""
        try:
            return self._flags.is_raised(f"{job}:{lane}")
        except RedisError:
            return True

    def heard(self, job: str, lane: str) -> None:
        """Somebody is on the way: the next ring counts again."""
        try:
            self._flags.lower(f"{job}:{lane}")
        except RedisError as error:
            log.warning("ring_flag_stays", job=job, lane=lane, error=type(error).__name__)


def make_bell(redis_url: str) -> Bell:
    """A bell on Redis, or in memory when `redis_url` is empty. Declare the actors with `declare` next."""
    middleware = [TimeLimit(), ShutdownNotifications()]
    if not redis_url:
        return Bell(StubBroker(middleware=middleware), _LocalFlags())
    # A dead worker's messages come back after `heartbeat_timeout`, looked for at every tenth command.
    broker = WakingBroker(redis_url, middleware=middleware, heartbeat_timeout=10_000, maintenance_chance=100_000)
    return Bell(broker, _RedisFlags(broker.client))


def declare(
    bell: Bell, actors: Iterable[tuple[str, Callable[[str], Any]]], lanes: Iterable[str], limit_ms: int
) -> None:
    """Give the broker one actor per job and one queue per lane. `limit_ms` stands above every lease."""
    lanes = list(lanes)
    for lane in lanes:
        bell.broker.declare_queue(lane)
    for job, function in actors:
        dramatiq.Actor(
            function,
            broker=bell.broker,
            actor_name=job,
            queue_name=lanes[0],
            priority=0,
            options={"time_limit": limit_ms},
        )
