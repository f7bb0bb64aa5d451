"""Gunicorn's hooks for `tidings web`. Read by path, so that gunicorn's parent process never loads the application."""

import os
import runpy
from pathlib import Path
from typing import Any

worker_class = runpy.run_path(str(Path(__file__).with_name("patient_worker.py")))["PatientWorker"]


def child_exit(_server: Any, worker: Any) -> None:
    """Forget the gauges of a web process that has ended."""
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        from prometheus_client import multiprocess  # only where metrics are shared at all

        multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
