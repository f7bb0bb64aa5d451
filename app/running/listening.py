"""What a command prepares before it becomes a parent that never loads the application: shared metrics, a port."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

from app.config import Settings, SettingsError
from app.metrics_sharing import UnusableFolderError, announce, prepare


def share_metrics(settings: Settings, name: str) -> Path:
    """Have the processes of this command count together. Returns the folder; raises SettingsError."""
    try:
        folder = prepare(settings.prometheus_multiproc_dir, name)
    except UnusableFolderError as error:
        raise SettingsError([f"PROMETHEUS_MULTIPROC_DIR: {error}"]) from None
    announce(folder)
    return folder


def observed(settings: Settings) -> list[str]:
    """What the supervisor is told for it to answer on WORKER_PORT: nothing when there is none.

    The socket listens from here on, so that a port that is taken is refused before anything starts.
    Raises SettingsError.
    """
    if not settings.worker_port:
        return []
    listening = _listen(settings)
    folder = share_metrics(settings, f"worker-{settings.worker_port}")
    port, (reading, writing) = listening.detach(), os.pipe()
    with os.fdopen(writing, "w") as pipe:
        json.dump({"socket": port, "folder": str(folder), "token": settings.metrics_token}, pipe)
    for kept in (port, reading):
        os.set_inheritable(kept, True)
    return ["--observe", str(reading)]


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.worker_port))
        listening.listen(64)
    except OSError as error:
        where = f"{settings.host}:{settings.worker_port}"
        raise SettingsError([f"WORKER_PORT: nobody can listen on {where} ({error.strerror or error})"]) from None
    return listening
