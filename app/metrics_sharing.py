"""One set of metrics for all processes of a command: each writes files that any of them can add up.

The command makes and empties a folder (`prepare`) and names it in the environment of the processes that it starts; a
process takes part when it loads this module. Each has a number of its own, which its successor takes over when it
dies: so the files stay as few as the processes, and no counter ever goes back.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import IO

from prometheus_client import values

FOLDER = "TIDINGS_METRICS_DIR"
_FILES = ("counter", "histogram", "gauge_mostrecent")
_SIZE = 262_144
_held: dict[int, IO[bytes]] = {}


class UnusableFolderError(Exception):
    """The folder cannot be used; the text says why."""


def prepare(base: str, name: str) -> Path:
    """An empty folder that only we can read: `name` in `base`, or beside the system's temporary files.

    `name` belongs to one command on this machine, such as web-8000. Raises UnusableFolderError.
    """
    folder = Path(base, name) if base else Path(tempfile.gettempdir(), f"tidings-{os.getuid()}-{name}")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise UnusableFolderError(f"{folder} is not ours")
        for old in folder.iterdir():
            shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
    except OSError as error:
        raise UnusableFolderError(f"{folder} cannot be used ({error.strerror})") from None
    return folder


def announce(folder: Path) -> None:
    """Have the processes that this one starts, or becomes, share their metrics in `folder`."""
    os.environ[FOLDER] = str(folder)


def number() -> int:
    """This process's number among those that share a folder; 0 for one that shares with nobody."""
    return next(iter(_held), 0)


def join() -> Path | None:
    """Share this process's metrics, if its command said where. Before the first metric is made. Returns the folder."""
    values.ValueClass = values.MutexValue
    named = os.environ.get(FOLDER)
    folder = Path(named) if named else None
    if folder is None or not folder.is_dir():
        return None
    try:
        taken = _take_number(folder)
        for kind in _FILES:
            _allocate(folder / f"{kind}_{taken}.db")
    except OSError:  # a full disk: better to count for itself than not to work
        return None
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)  # where the library looks for it
    values.ValueClass = values.MultiProcessValue(lambda: taken)  # type: ignore[no-untyped-call]
    return folder


def _take_number(folder: Path) -> int:
    """The least number that no living process has: its lock falls with the process that holds it."""
    for number in itertools.count():
        file = (folder / f"number-{number}").open("wb")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            continue
        _held[number] = file
        return number
    raise AssertionError("there are numbers enough")


def _allocate(path: Path) -> None:
    """Have the room for a file of values now: a disk that is full at the first write would end the process."""
    with path.open("ab") as file:
        if file.tell() == 0:
            os.posix_fallocate(file.fileno(), 0, _SIZE)
