"""Gunicorn's hooks for `tidings up`: the one web process also hears the bell and sweeps.

Read by path, so that gunicorn's parent process never loads the application: it stays small. The hooks run in the
web process, where the application is loaded anyway, which is why they import it themselves. Threads do not
survive a fork, so the worker is started there too.
"""

import runpy
from pathlib import Path
from typing import Any

worker_class = runpy.run_path(str(Path(__file__).with_name("patient_worker.py")))["PatientWorker"]
_running: list[Any] = []


def post_worker_init(worker: Any) -> None:
    """Start to work, once the application stands."""
    from app.running.worker import start_embedded

    _running.append(start_embedded(worker.wsgi.extensions["tidings"]))


def worker_exit(_server: Any, _worker: Any) -> None:
    """Finish or give back what is under way."""
    while _running:
        _running.pop().stop()
