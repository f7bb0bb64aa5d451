"""Gunicorn's hooks for `tidings up`: the one web process also hears the bell and sweeps.

Read by path, so that gunicorn's parent process never loads the application: it stays small. The hooks run in the
web process, where the application is loaded anyway, which is why they import it themselves. Threads do not
survive a fork, so the worker is started there too.
"""

import os
import runpy
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
_PatientWorker: Any = runpy.run_path(str(_HERE / "patient_worker.py"))["PatientWorker"]
when_ready = runpy.run_path(str(_HERE / "gunicorn_parent.py"))["when_ready"]
_calm = runpy.run_path(str(_HERE / "collector.py"))["calm"]
_running: list[Any] = []


class worker_class(_PatientWorker):  # type: ignore[misc]  # noqa: N801 - gunicorn's own name
    """The web process of `tidings up`: what it delivers is ended while the last requests are answered."""

    def handle_exit(self, sig: int, frame: Any) -> None:
        """SIGTERM or SIGINT: nothing new is begun."""
        for running in _running:
            running.leave()
        super().handle_exit(sig, frame)


def post_worker_init(worker: Any) -> None:
    """Start to work, once the application stands."""
    from app.running.worker import start_embedded

    _running.append(start_embedded(worker.wsgi.extensions["tidings"]))
    _calm()


def worker_exit(_server: Any, _worker: Any) -> None:
    """Finish or give back what is under way."""
    while _running:
        if not _running.pop().stop():
            os._exit(1)  # threads that are still at it would keep the process alive
