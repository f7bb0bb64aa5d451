"""A worker in this process: Dramatiq's threads, and the sweep beside them."""

from __future__ import annotations

import threading

import dramatiq
import structlog

from app.core import sweeps
from app.core.runtime import Runtime

log = structlog.get_logger()

STOP_SECONDS = 25.0  # what is under way is finished or given back within this


class InProcessWorker:
    """Hears the bell and sweeps, until `stop`."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        settings = runtime.settings
        # 10 ms: an idle worker on Redis hears a ring within 4 ms; in memory nobody polls.
        self._worker = dramatiq.Worker(
            runtime.bell.broker,
            worker_timeout=10 if settings.redis_url else 1000,
            worker_threads=settings.worker_threads,
        )
        self._stopping = threading.Event()
        self._sweeper = threading.Thread(target=self._sweep, name="sweeper", daemon=True)

    def start(self) -> None:
        """Begin to listen. What was left from before is found by the first sweep."""
        self._runtime.bell.broker.emit_after("process_boot")  # without it TimeLimit does nothing
        self._worker.start()
        self._sweeper.start()

    def stop(self) -> None:
        """Take nothing new, and wait up to STOP_SECONDS for what is under way."""
        self._stopping.set()
        self._worker.stop(timeout=int(STOP_SECONDS * 1000))
        self._sweeper.join(timeout=5)
        self._runtime.channels.close()

    def _sweep(self) -> None:
        while True:
            sweeps.sweep(self._runtime)
            if self._stopping.wait(self._runtime.settings.sweep_seconds):
                return
