"""Putting the running service's parts together, for the doors, the worker and the command line alike."""

from __future__ import annotations

import math
import os
from pathlib import Path

from app import tracing
from app.broker import make_bell
from app.clock import Clock
from app.config import Settings
from app.core.channels import Channels
from app.core.deliveries import witness
from app.core.runtime import Runtime
from app.core.templating import FileTemplates
from app.crypto import Vault
from app.db import Database
from app.entrypoints import actors
from app.running.embedded import prepare

TEMPLATES = Path(__file__).resolve().parent.parent / "templates"
_SPARE_CONNECTIONS = 8  # for recorders, and channels of one event that go side by side


def load_settings() -> Settings:
    """The settings from the environment and `.env`; embedded, with a database and a key in DATA_DIR."""
    return prepare(Settings.from_env(os.environ, Path(".env")))


def make_runtime(settings: Settings, clock: Clock | None = None, *, silent_seconds: float = math.inf) -> Runtime:
    """A database, a vault, a bell with its actors, the channels and the shipped templates.

    `silent_seconds`: how long the database is waited for while it says nothing.
    """
    clock = clock or Clock()
    working = sum(settings.lanes.values())
    threads = settings.web_threads + working if settings.embedded else max(settings.web_threads, working)
    db = Database(settings.database_url, pool_size=threads + _SPARE_CONNECTIONS, silent_seconds=silent_seconds)
    db.bell = bell = make_bell(settings.redis_url)
    runtime = Runtime(
        settings=settings,
        db=db,
        vault=Vault(settings.secret_key),
        clock=clock,
        bell=bell,
        channels=Channels.from_settings(settings, db, clock),
        files=FileTemplates(TEMPLATES),
    )
    actors.declare(bell, runtime)
    witness.expect()
    tracing.start(settings.otel_exporter_otlp_endpoint)
    return runtime
