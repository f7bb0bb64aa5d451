"""Orders to running processes by small files, and the files to which they append what they did."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

LOOK_SECONDS = 0.02


class Control:
    """Orders in a folder, one file for each topic. Who reads sees an order whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def order(self, topic: str, value: Any) -> None:
        """Say what counts from now on for a topic; JSON."""
        fresh = self._folder / f"{topic}.new"
        fresh.write_text(json.dumps(value))
        fresh.rename(self._folder / topic)


class Order:
    """The order of one topic as it stands, looked at every 20 ms at most."""

    def __init__(self, folder: Path, topic: str, default: Any) -> None:
        self._path = folder / topic
        self._value = default
        self._looked = 0.0
        self._changed = 0

    def get(self) -> Any:
        """What was ordered last; the default before the first order."""
        now = time.monotonic()
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            try:
                changed = self._path.stat().st_ino
                if changed != self._changed:
                    self._value, self._changed = json.loads(self._path.read_text()), changed
            except FileNotFoundError:
                pass
        return self._value


class Notes:
    """A file to which several processes append facts, one JSON object a line. What is noted survives `kill -9`."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)

    def add(self, **facts: Any) -> None:
        """Note facts and the time (seconds since 1970). Written in one piece before this returns."""
        line = json.dumps({"at": time.time(), **facts}, separators=(",", ":"))
        os.write(self._file, line.encode() + b"\n")


def read_notes(path: Path) -> list[dict[str, Any]]:
    """All notes of a file, in the order of writing; none if there is no file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]
