"""What the embedded shape needs before it starts: the folder, its lock, a secret key."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from dataclasses import replace
from pathlib import Path
from typing import IO

from app.config import Settings, SettingsError


def prepare(settings: Settings) -> Settings:
    """The settings with a database in DATA_DIR and a secret key that is made once and kept there.

    Outside embedded mode they stay as they are. Raises SettingsError when DATA_DIR cannot be written.
    """
    if not settings.embedded:
        return settings
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        key = settings.secret_key or _kept_key(settings.data_dir / "secret_key")
    except OSError as error:
        raise SettingsError([f"DATA_DIR: cannot be used ({error.strerror}: {settings.data_dir})"]) from None
    url = settings.database_url or f"sqlite:///{settings.data_dir.resolve() / 'tidings.db'}"
    return replace(settings, secret_key=key, database_url=url)


def lock(data_dir: Path) -> IO[str]:
    """Hold DATA_DIR for this process and its children as long as the file returned is open.

    Raises SettingsError when another process holds it.
    """
    file = (data_dir / "lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise SettingsError([f"DATA_DIR: another `tidings up` is running on {data_dir}"]) from None
    return file


def _kept_key(path: Path) -> str:
    """The key in the file, made first if there is none, and synced: without it nothing sealed can be read."""
    if path.exists():
        return path.read_text().strip()
    fresh = path.with_suffix(f".{os.getpid()}.new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(secrets.token_urlsafe(48))
        file.flush()
        os.fsync(file.fileno())
    with contextlib.suppress(FileExistsError):
        os.link(fresh, path)  # of two that start at once, one wins and both use its key
    fresh.unlink()
    return path.read_text().strip()
