"""Gunicorn's hooks for `tidings web`. Read by path, so that gunicorn's parent process never loads the application."""

import runpy
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
worker_class = runpy.run_path(str(_HERE / "patient_worker.py"))["PatientWorker"]
when_ready = runpy.run_path(str(_HERE / "gunicorn_parent.py"))["when_ready"]
_calm = runpy.run_path(str(_HERE / "collector.py"))["calm"]


def post_worker_init(_worker: Any) -> None:
    """The application stands."""
    _calm()
