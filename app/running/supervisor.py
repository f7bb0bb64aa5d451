"""`tidings worker`: so many worker processes, watched over; one that dies is replaced.

Run by path with nothing but the standard library: `python supervisor.py COUNT COMMAND…`, so that it stays small
and nothing of the application can bring it down. SIGTERM or SIGINT ends them all in order, and a second one at once;
`--stop-within SECONDS` says how long they are waited for. With `--observe FD` first it also answers for its processes:
see `observer.py`.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

STOP_SECONDS = 30.0  # a little more than a worker takes to finish or give back what is under way
CALM_SECONDS = 10.0  # one that lived this long may be replaced at once
LONGEST_WAIT = 30.0
_HERE = Path(__file__).resolve().parent
_hurry = runpy.run_path(str(_HERE / "hurry.py"))


class Child:
    """One process that is started again whenever it ends."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._wait = 0.5

    def keep_alive(self) -> None:
        """Start it if it does not run; one that keeps dying is started ever more slowly."""
        if self._process and self._process.poll() is None:
            return
        if self._process:
            lived = time.monotonic() - self._started
            if lived < self._wait:
                return
            self._wait = 0.5 if lived > CALM_SECONDS else min(self._wait * 2, LONGEST_WAIT)
            _log("worker_died", pid=self._process.pid, status=self._process.returncode)
        self._started = time.monotonic()
        self._process = subprocess.Popen(self._command)  # noqa: S603

    def kill(self) -> None:
        """End it at once."""
        if self._process and self._process.poll() is None:
            self._process.kill()

    def terminate(self) -> None:
        """Ask it to finish."""
        if self._process and self._process.poll() is None:
            self._process.terminate()

    def wait(self, seconds: float) -> bool:
        """Whether it ended by itself within so many seconds; otherwise it is killed."""
        if self._process is None:
            return True
        try:
            self._process.wait(max(seconds, 0.1))
        except subprocess.TimeoutExpired:
            _log("worker_killed", pid=self._process.pid)
            self._process.kill()
            return False
        return True


def supervise(count: int, command: Sequence[str], stop_within: float = STOP_SECONDS) -> int:
    """Keep `count` processes running until SIGTERM or SIGINT. Returns the exit status: 0 when all ended in time."""
    stopping = threading.Event()
    children = [Child(command) for _ in range(count)]

    def end_at_once() -> None:
        for child in children:
            child.kill()
        os._exit(1)

    _hurry["on_signals"](stopping.set, end_at_once)
    while not stopping.is_set():
        for child in children:
            child.keep_alive()
        stopping.wait(0.5)
    for child in children:
        child.terminate()
    end = time.monotonic() + stop_within
    in_time = [child.wait(end - time.monotonic()) for child in children]
    return 0 if all(in_time) else 1


def _log(event: str, **facts: object) -> None:
    print(json.dumps({"event": event, "level": "error", **facts}), file=sys.stderr, flush=True)


def main(arguments: Sequence[str]) -> int:
    """What the command line says, done."""
    told, stop_within = None, STOP_SECONDS
    if arguments[0] == "--observe":
        told, arguments = int(arguments[1]), arguments[2:]
    if arguments[0] == "--stop-within":
        stop_within, arguments = float(arguments[1]), arguments[2:]
    if told is not None:
        runpy.run_path(str(_HERE / "observer.py"))["observe"](told, int(arguments[0]))
    return supervise(int(arguments[0]), arguments[1:], stop_within)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
