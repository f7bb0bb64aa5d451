"""`tidings worker`: so many worker processes, watched over; one that dies is replaced."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

import structlog

from app.core.runtime import Runtime
from app.running.worker import STOP_SECONDS, InProcessWorker

log = structlog.get_logger()

_CALM_SECONDS = 10.0  # one that lived this long may be replaced at once
_LONGEST_WAIT = 30.0


class Supervisor:
    """Keeps `count` child processes running until it is told to stop by SIGTERM or SIGINT."""

    def __init__(self, command: Sequence[str], count: int) -> None:
        self._command = list(command)
        self._children: list[_Child] = [_Child(self._command) for _ in range(count)]
        self._stopping = threading.Event()

    def run(self) -> int:
        """Returns the exit status once every child has ended."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stopping.set())
        while not self._stopping.wait(0.5):
            for child in self._children:
                child.keep_alive()
        for child in self._children:
            child.terminate()
        end = time.monotonic() + STOP_SECONDS + 5
        return max(child.wait(end - time.monotonic()) for child in self._children)


class _Child:
    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._wait = 0.5

    def keep_alive(self) -> None:
        if self._process and self._process.poll() is None:
            return
        if self._process:
            lived = time.monotonic() - self._started
            self._wait = 0.5 if lived > _CALM_SECONDS else min(self._wait * 2, _LONGEST_WAIT)
            if lived < self._wait:
                return
            log.error("worker_died", pid=self._process.pid, status=self._process.returncode)
        self._started = time.monotonic()
        self._process = subprocess.Popen(self._command)  # noqa: S603

    def terminate(self) -> None:
        if self._process and self._process.poll() is None:
            self._process.terminate()

    def wait(self, seconds: float) -> int:
        if self._process is None:
            return 0
        try:
            return abs(self._process.wait(max(seconds, 0.1)))
        except subprocess.TimeoutExpired:
            log.error("worker_killed", pid=self._process.pid)
            self._process.kill()
            return 1


def child_command() -> list[str]:
    """How a worker process of its own is started."""
    return [sys.executable, "-m", "app.entrypoints.cli", "worker", "--alone"]


def run_alone(runtime: Runtime) -> int:
    """Be one worker process, until SIGTERM, SIGINT or the death of the parent."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    parent = os.getppid()
    worker = InProcessWorker(runtime)
    worker.start()
    while not stopping.wait(1.0):
        if os.getppid() != parent:
            log.warning("parent_gone")
            break
    worker.stop()
    return 0
