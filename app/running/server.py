"""The web processes, by gunicorn. This process becomes gunicorn's parent and forgets the application."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import NoReturn

from app.config import Settings, SettingsError
from app.running.listening import share_metrics
from app.running.worker import stop_seconds

_HERE = Path(__file__).resolve().parent


def check_port(settings: Settings) -> None:
    """Raises SettingsError when nobody could listen on HOST and PORT: better than after everything was set up."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((settings.host, settings.port))
        except OSError as error:
            where = f"{settings.host}:{settings.port}"
            raise SettingsError([f"PORT: nobody can listen on {where} ({error.strerror or error})"]) from None


def become_server(settings: Settings, *, with_worker: bool) -> NoReturn:
    """Serve until SIGTERM. `with_worker`: one process that also hears the bell and sweeps."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    options = {
        "--config": str(_HERE / ("gunicorn_up.py" if with_worker else "gunicorn_web.py")),
        "--bind": f"{host}:{settings.port}",
        "--workers": "1" if with_worker else str(settings.web_processes),
        "--threads": str(settings.web_threads),
        "--graceful-timeout": str(int(stop_seconds(settings)) + 5),
        "--keep-alive": "5",
        "--log-level": "warning",
        "--name": "tidings",
        "--pythonpath": str(_HERE.parent.parent),
    }
    arguments = [word for option in options.items() for word in option]
    if not with_worker:
        share_metrics(settings, f"web-{settings.port}")
    sys.stdout.flush()
    command = [sys.executable, "-m", "gunicorn", *arguments, "--no-control-socket", "wsgi:app"]
    os.execv(sys.executable, command)  # noqa: S606
