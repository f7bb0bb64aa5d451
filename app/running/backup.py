"""A copy of the embedded database, made while the service runs."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from app.config import Settings, SettingsError


def back_up(settings: Settings, folder: Path) -> list[Path]:
    """Copy the database as it is at one moment, checked, and its key into `folder`. Returns what was written.

    Nobody has to wait meanwhile. The key is copied if DATA_DIR has it; one that comes from SECRET_KEY is yours to keep.
    Raises SettingsError when there is nothing to copy, or a copy stands there already.
    """
    source, copy = settings.data_dir / "tidings.db", folder / "tidings.db"
    if not source.is_file():
        raise SettingsError([f"DATA_DIR: there is no database in {settings.data_dir}"])
    if copy.exists():
        raise SettingsError([f"{copy} is there already: every copy has a folder of its own"])
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = folder / "tidings.db.unfinished"
    fresh.unlink(missing_ok=True)
    _copy(source, fresh)
    written = [copy]
    if (key := settings.data_dir / "secret_key").is_file():
        written.append(_write(folder / "secret_key", key.read_bytes()))
    fresh.rename(copy)  # last: a folder with a database in it is whole
    return written


def _copy(source: Path, target: Path) -> None:
    _write(target, b"")
    readable = f"{source.resolve().as_uri()}?mode=ro"
    with closing(sqlite3.connect(readable, uri=True)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)  # in one go: a reader of the log at one moment, beside whom others write
        new.execute("PRAGMA journal_mode=DELETE")  # one file
        fault = new.execute("PRAGMA quick_check").fetchone()[0]
    if fault != "ok":
        raise SettingsError([f"the copy is not sound ({fault}), and so may be the database"])
    with target.open("rb") as file:
        os.fsync(file.fileno())


def _write(path: Path, content: bytes) -> Path:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return path
