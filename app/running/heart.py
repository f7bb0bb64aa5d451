"""What a worker process says of itself, for `observer.py` in its parent: that it lives, and which parts it reaches."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from pathlib import Path

from app.metrics import PART_UP
from app.readiness import OK, Readiness

CHECK_SECONDS = 5.0


class Heart:
    """Writes `beat-<number>` in the folder of this command's metrics: {"at", "checkedAt", "parts"}, unix seconds.

    `beat` is for the main thread, so that it tells of a process that hangs; the parts are asked in a thread of their
    own, because a database that is away may keep whoever asks waiting. Without a folder it does nothing.
    """

    def __init__(self, readiness: Readiness, folder: Path | None, number: int) -> None:
        self._readiness = readiness
        self._path = folder / f"beat-{number}" if folder else None
        self._parts: dict[str, str] = {}
        self._checked_at = 0.0
        self._stopping = threading.Event()

    def start(self) -> None:
        """Begin to ask the parts."""
        if self._path:
            threading.Thread(target=self._check, name="heart", daemon=True).start()

    def beat(self) -> None:
        """Say that the process lives, and what it found."""
        if self._path is None:
            return
        said = {"at": time.time(), "checkedAt": self._checked_at, "parts": self._parts}
        fresh = self._path.with_suffix(f".{os.getpid()}")
        with contextlib.suppress(OSError):  # a full disk must not end the worker; its silence is seen
            fresh.write_text(json.dumps(said))
            fresh.replace(self._path)

    def stop(self) -> None:
        """Take the word back: this process ends."""
        self._stopping.set()
        if self._path:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)

    def _check(self) -> None:
        while not self._stopping.is_set():
            self._parts = self._readiness.parts()
            self._checked_at = time.time()
            for part, state in self._parts.items():
                PART_UP.labels(part).set(state == OK)
            self._stopping.wait(CHECK_SECONDS)
