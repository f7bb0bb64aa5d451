"""The web processes, by gunicorn; embedded, the worker lives in the only one of them."""

from __future__ import annotations

from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication
from prometheus_client import multiprocess

from app import create_app
from app.config import Settings
from app.core import sweeps
from app.core.runtime import Runtime
from app.running.worker import STOP_SECONDS, InProcessWorker


class WebServer(BaseApplication):  # type: ignore[misc]
    """Gunicorn with our settings; `with_worker` runs one process that also hears the bell and sweeps."""

    def __init__(self, settings: Settings, *, with_worker: bool) -> None:
        self._settings = settings
        self._with_worker = with_worker
        self._worker: InProcessWorker | None = None
        super().__init__()

    def load_config(self) -> None:
        settings = self._settings
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        options: dict[str, Any] = {
            "bind": f"{host}:{settings.port}",
            "worker_class": "gthread",
            "workers": 1 if self._with_worker else settings.web_processes,
            "threads": settings.web_threads,
            "graceful_timeout": int(STOP_SECONDS) + 5,
            "keepalive": 5,
            "loglevel": "warning",
            "proc_name": "tidings",
            "control_socket_disable": True,
            "post_worker_init": self._started,
            "worker_exit": self._ending,
            "child_exit": self._forget_metrics,
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """The application, made in the worker process: threads do not survive a fork."""
        return create_app(self._settings)

    def _started(self, worker: Any) -> None:
        if not self._with_worker:
            return
        runtime: Runtime = worker.wsgi.extensions["tidings"]
        if self._settings.embedded:
            sweeps.release_all_leases(runtime)  # under the lock on DATA_DIR, which our parent holds
        self._worker = InProcessWorker(runtime)
        self._worker.start()

    def _ending(self, _server: Any, _worker: Any) -> None:
        if self._worker:
            self._worker.stop()

    def _forget_metrics(self, _server: Any, worker: Any) -> None:
        if self._settings.prometheus_multiproc_dir:
            multiprocess.mark_process_dead(worker.pid, self._settings.prometheus_multiproc_dir)
