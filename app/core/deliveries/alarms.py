"""Rings for later, within one process: for what is due before the next sweep. Only a bell; the row is the truth."""

from __future__ import annotations

import math
import threading
import time

from app.broker import Bell
from app.core.outbox import Job, Lane
from app.core.runtime import Runtime

_SLOTS_A_SECOND = 20  # rings closer together than that are one
_set: set[tuple[Bell, Lane, int]] = set()
_lock = threading.Lock()


def ring_in(runtime: Runtime, lane: Lane, seconds: float) -> None:
    """Ring for deliveries of a lane in so many seconds, if that is before the next sweep would find them."""
    if seconds > runtime.settings.sweep_seconds:
        return
    alarm = runtime.bell, lane, math.ceil((time.monotonic() + seconds) * _SLOTS_A_SECOND)
    with _lock:
        if alarm in _set:
            return
        _set.add(alarm)
    timer = threading.Timer(alarm[2] / _SLOTS_A_SECOND - time.monotonic(), _ring, alarm)
    timer.daemon = True
    timer.start()


def _ring(bell: Bell, lane: Lane, slot: int) -> None:
    with _lock:
        _set.discard((bell, lane, slot))
    bell.ring(Job.DELIVER, lane)
