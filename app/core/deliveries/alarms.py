"""Rings for later, within one process: for what is due before the next sweep. Only a bell; the row is the truth."""

from __future__ import annotations

import math
import threading
import time

from app.core.outbox import Job, Lane
from app.core.runtime import Runtime

_SLOTS_A_SECOND = 20  # rings closer together than that are one
_set: set[tuple[Lane, int]] = set()
_lock = threading.Lock()


def ring_in(runtime: Runtime, lane: Lane, seconds: float) -> None:
    """Ring for deliveries of a lane in so many seconds, if that is before the next sweep would find them."""
    if seconds > runtime.settings.sweep_seconds:
        return
    slot = math.ceil((time.monotonic() + seconds) * _SLOTS_A_SECOND)
    with _lock:
        if (lane, slot) in _set:
            return
        _set.add((lane, slot))
    timer = threading.Timer(slot / _SLOTS_A_SECOND - time.monotonic(), _ring, (runtime, lane, slot))
    timer.daemon = True
    timer.start()


def _ring(runtime: Runtime, lane: Lane, slot: int) -> None:
    with _lock:
        _set.discard((lane, slot))
    runtime.bell.ring(Job.DELIVER, lane)
