"""A worker in this process: Dramatiq's threads, and the sweep beside them."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import NoReturn

import dramatiq
import structlog

from app import metrics_sharing
from app.config import Settings
from app.core import sweeps
from app.core.runtime import Runtime
from app.metrics import SHARED
from app.readiness import Readiness
from app.running.heart import Heart
from app.running.listening import observed

log = structlog.get_logger()

STOP_SECONDS = 25.0  # what is under way is finished or given back within this
SUPERVISOR = Path(__file__).resolve().parent / "supervisor.py"


class InProcessWorker:
    """Hears the bell and sweeps, until `stop`."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        # Each lane has threads of its own: however long normal work lasts, transactional work does not wait for it.
        # A lane that this process does not serve has none, and its bell is for others.
        self._workers = [
            dramatiq.Worker(runtime.bell.broker, queues={lane}, worker_timeout=250, worker_threads=threads)
            for lane, threads in runtime.settings.lanes.items()
        ]
        # Dramatiq warns that two workers listen to one broker. That is meant: each to its own queues.
        runtime.bell.broker.logger.setLevel(logging.ERROR)
        self._stopping = threading.Event()
        self._sweeper = threading.Thread(target=self._sweep, name="sweeper", daemon=True)

    def start(self) -> None:
        """Begin to listen. What was left from before is found by the first sweep."""
        self._runtime.bell.broker.emit_after("process_boot")  # without it TimeLimit does nothing
        for worker in self._workers:
            worker.start()
        self._sweeper.start()

    def stop(self) -> None:
        """Take nothing new, and wait up to STOP_SECONDS for what is under way."""
        self._stopping.set()
        stopping = [threading.Thread(target=worker.stop, args=(int(STOP_SECONDS * 1000),)) for worker in self._workers]
        for thread in stopping:
            thread.start()
        for thread in stopping:
            thread.join()
        self._sweeper.join(timeout=5)
        self._runtime.channels.close()

    def _sweep(self) -> None:
        while True:
            sweeps.sweep(self._runtime)
            if self._stopping.wait(self._runtime.settings.sweep_seconds):
                return


def start_embedded(runtime: Runtime) -> InProcessWorker:
    """Work in the web process. Under the lock on DATA_DIR nobody else can hold a lease: all are released first."""
    if runtime.settings.embedded:
        sweeps.release_all_leases(runtime)
    worker = InProcessWorker(runtime)
    worker.start()
    return worker


def become_supervisor(settings: Settings, lanes: str) -> NoReturn:
    """Turn this process into the one that watches over WORKER_PROCESSES worker processes.

    `lanes`: threads by lane, as in the setting WORKER_LANES; empty: what the settings say.
    """
    command = [sys.executable, "-m", "app.entrypoints.cli", "worker", "--alone"]
    command += ["--lanes", lanes] if lanes else []
    supervisor = [str(SUPERVISOR), *observed(settings), str(settings.worker_processes)]
    os.execv(sys.executable, [sys.executable, *supervisor, *command])  # noqa: S606


def run_alone(runtime: Runtime) -> int:
    """Be one worker process, until SIGTERM, SIGINT or the death of the parent."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    parent = os.getppid()
    heart = Heart(Readiness(runtime.db, runtime.bell.broker), SHARED, metrics_sharing.number())
    heart.start()
    worker = InProcessWorker(runtime)
    worker.start()
    while not stopping.wait(1.0):
        heart.beat()
        if os.getppid() != parent:
            log.warning("parent_gone")
            break
    worker.stop()
    heart.stop()
    return 0
