"""One worker process as chaos starts it, under the product's supervisor: `… -m bench.chaos.worker FOLDER FAULT PARENT`.

It is the product's worker with four things of chaos's own put in from outside: a clock that can be wrong, a broker
that can lose rings, providers that note what they do, and short leases and retries.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dramatiq
from dramatiq.middleware.middleware import SkipMessage

from app import wiring
from app.clock import Clock
from app.core.channels import Channels
from app.core.deliveries import event_claims, gates, schedule, send
from app.logs import configure_logs
from app.running.worker import run_alone
from bench.chaos import sabotage
from bench.chaos.control import Notes, Order
from bench.chaos.poison import NotedProvider
from providers.contract import Channel, Provider

BATCH_SECONDS = 2.5
TIMEOUT_SECONDS = 2.0  # of every provider
LEASE_SECONDS = 2 * (BATCH_SECONDS + TIMEOUT_SECONDS)  # as `send.lease_seconds` has it
RETRIES = (0.5, 1.0, 1.0, 2.0, 2.0) + 400 * (3.0,)  # long enough that no outage of a test exhausts it
LATE_SECONDS = 2 * LEASE_SECONDS  # by then another try has succeeded
SLOTS = 8
STARTED = "worker-started"  # a file that is there when a worker has come as far as to work


class ShiftedClock(Clock):
    """The machine's clock, so many seconds wrong as the order of its topic says."""

    def __init__(self, order: Order) -> None:
        self._order = order

    def now(self) -> datetime:
        """The wrong time."""
        return super().now() + timedelta(seconds=self._order.get())


class LosesRings(dramatiq.Middleware):
    """While ordered to, every second ring that this process gets is lost, as if it had never come."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._count = 0

    def before_process_message(self, broker: Any, message: Any) -> None:  # noqa: ARG002
        """Called by Dramatiq."""
        self._count += 1
        if self._order.get() and self._count % 2:
            raise SkipMessage


def noted_channels(notes: Notes) -> type[Channels]:
    """The product's channels with every provider in a NotedProvider."""

    class NotedChannels(Channels):
        def __init__(
            self,
            providers: Mapping[Channel, Sequence[Provider]],
            timeouts: Mapping[Channel, float],
            *args: Any,
            **kwargs: Any,
        ) -> None:
            noted = {
                channel: [NotedProvider(provider, notes, LATE_SECONDS) for provider in found]
                for channel, found in providers.items()
            }
            super().__init__(noted, dict.fromkeys(timeouts, TIMEOUT_SECONDS), *args, **kwargs)

    return NotedChannels


def shorten() -> None:
    """Leases of seconds, and retries that follow soon and do not end."""
    send.BATCH_SECONDS = BATCH_SECONDS
    event_claims.LEASE_SECONDS = LEASE_SECONDS
    gates.ALONE_SECONDS = LEASE_SECONDS
    schedule.SCHEDULES.update(dict.fromkeys(Channel, RETRIES))


def take_slot(folder: Path) -> tuple[int, int]:
    """The lowest number that no living worker holds, and the lock that holds it: which clock is ours."""
    for slot in range(SLOTS):
        lock = os.open(folder / f"slot-{slot}", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
        else:
            return slot, lock
    raise RuntimeError("too many workers")


def main() -> int:
    """Be one worker until told to stop."""
    folder, planted, parent = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    slot, _lock = take_slot(folder)
    shorten()
    sabotage.plant(planted)
    vars(wiring)["Channels"] = noted_channels(Notes(folder / "tries"))
    settings = wiring.load_settings()
    configure_logs(settings)
    runtime = wiring.make_runtime(settings, ShiftedClock(Order(folder, f"clock-{slot}", 0)))
    runtime.bell.broker.add_middleware(LosesRings(Order(folder, "lose", False)))
    (folder / STARTED).touch()
    return run_alone(runtime, parent)


if __name__ == "__main__":
    sys.exit(main())
