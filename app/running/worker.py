"""A worker in this process: Dramatiq's threads, and the sweep beside them."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import NoReturn

import dramatiq
import structlog

from app import metrics_sharing, tracing
from app.config import Settings
from app.core import sweeps
from app.core.deliveries import gates, send
from app.core.runtime import Runtime
from app.core.templating import load_grammar
from app.metrics import SHARED
from app.readiness import Readiness
from app.running.collector import calm
from app.running.heart import Heart
from app.running.listening import observed

log = structlog.get_logger()

STOP_SECONDS = 25.0  # see `stop_seconds`
_RECORD_SECONDS = 5.0  # to write down the last results
_HANGS_SECONDS = 10.0  # after the time limit of a job, which ends what can be ended
SUPERVISOR = Path(__file__).resolve().parent / "supervisor.py"


def stop_seconds(settings: Settings) -> float:
    """Within how many seconds of SIGTERM what is under way is finished or given back.

    It is STOP_SECONDS, or more when a provider may take longer than the rest of them.
    """
    longest = max(settings.email_timeout, settings.sms_timeout, settings.webhook_timeout) / 1000
    return max(STOP_SECONDS, longest + _RECORD_SECONDS)


class InProcessWorker:
    """Hears the bell and sweeps, until `leave` and `stop`."""

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
        self._sweeper = threading.Thread(target=self._sweep, name="sweeper", daemon=True)

    def start(self) -> None:
        """Begin to listen. What was left from before is found by the first sweep."""
        self._runtime.stopping.clear()
        self._runtime.bell.broker.emit_after("process_boot")  # without it TimeLimit does nothing
        for worker in self._workers:
            worker.start()
        self._sweeper.start()

    def leave(self) -> None:
        """Begin nothing new; what is claimed and not begun is given back. Returns at once, and waits for nothing."""
        self._runtime.stopping.set()

    def stop(self) -> bool:
        """Leave, and wait up to `stop_seconds` for what is under way. False: some of it has not ended."""
        self.leave()
        end = time.monotonic() + stop_seconds(self._runtime.settings)
        wait_ms = int(stop_seconds(self._runtime.settings) * 1000)
        stopping = [threading.Thread(target=worker.stop, args=(wait_ms,), daemon=True) for worker in self._workers]
        for thread in stopping:
            thread.start()
        for thread in (*stopping, self._sweeper):
            thread.join(timeout=max(0.0, end - time.monotonic()))
        working = [thread.name for worker in self._workers for thread in worker.workers if thread.is_alive()]
        if working or self._sweeper.is_alive():
            log.error("stopped_unfinished", threads=len(working))
            return False
        self._runtime.channels.close()
        return True

    def _sweep(self) -> None:
        load_grammar()  # before the first template needs it, which is rendered within a lease
        while True:
            sweeps.sweep(self._runtime)
            if self._runtime.stopping.wait(self._runtime.settings.sweep_seconds):
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
    # Said, not asked by the child: its parent may die while it still loads.
    command = [sys.executable, "-m", "app.running.worker_process", str(os.getpid()), lanes]
    supervisor = [str(SUPERVISOR), *observed(settings), "--stop-within", str(stop_seconds(settings) + _RECORD_SECONDS)]
    supervisor += [str(settings.worker_processes)]
    os.execv(sys.executable, [sys.executable, *supervisor, *command])  # noqa: S606


def hangs(runtime: Runtime) -> bool:
    """Whether a batch is under way whose lease has ended long ago.

    Its thread and its room cannot be had back but by ending the process. Others have tried its rows meanwhile.
    """
    return gates.longest_hold(runtime) > send.time_limit_seconds(runtime) + _HANGS_SECONDS


def run_alone(runtime: Runtime, parent: int) -> int:
    """Be one worker process, until SIGTERM, SIGINT, the death of the parent or a batch that hangs. SIGQUIT ends it now.

    `parent` is the process id of the supervisor. Returns the exit status; what has not ended in time is cut off,
    and its rows are taken back when their leases end.
    """
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    heart = Heart(Readiness(runtime.db, runtime.bell.broker), SHARED, metrics_sharing.number())
    heart.start()
    worker = InProcessWorker(runtime)
    worker.start()
    calm()
    while not stopping.wait(1.0):
        heart.beat()
        if os.getppid() != parent:
            log.warning("parent_gone")
            break
        if hangs(runtime):
            log.error("batch_hangs")
            break
    in_time = worker.stop()
    heart.stop()
    tracing.stop()
    if not in_time:
        os._exit(1)  # threads that are still at it would keep the process alive
    return 0
