"""Tidings: post an event; the right messages go out; every delivery is on record.

The map of the house:

    entrypoints/    THE DOORS. Parse, call core, answer
      auth.py         API key or person's token -> Caller and scopes
      api/            one blueprint and its schemas per resource; gate, limits, problems, openapi are what they share
      callbacks/      what providers post to us
      web/            pages for people
      health.py       /health/live /health/ready /metrics
      actors.py       one Dramatiq actor per Job
      cli.py          the command `tidings`
    core/           THE WORK. pipeline.py is the straight line: read it first
    models/         THE RECORDS. Columns and constraints, nothing that decides
    running/        the processes: web, worker, sweeps, the embedded shape
    wiring.py       the running service's parts, put together
    config db broker crypto errors logs metrics paging …    plumbing
    ../providers/   THE EXITS. Strangers: values in, values out

Doors call core, core calls models and the channels; nobody imports a door.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.clock import Clock
from app.config import Settings
from app.core.runtime import Runtime
from app.logs import configure_logs
from app.wiring import load_settings, make_runtime

if TYPE_CHECKING:
    from flask import Flask

__all__ = ["create_app", "make_runtime"]


def create_app(
    settings: Settings | None = None, *, clock: Clock | None = None, runtime: Runtime | None = None
) -> Flask:
    """The web application. Its parts are made from `settings` (default: the environment) unless `runtime` has them.

    `app.extensions["tidings"]` is the Runtime. Workers and sweeps are started elsewhere (`running`).
    """
    # Here, not above: a worker imports this package too, and should not hold what only the web's processes need.
    from flask import Flask

    from app.entrypoints import api, callbacks, health, web

    if runtime is None:
        settings = settings or load_settings()
        configure_logs(settings)
        # Who asks waits; a worker does not mind.
        runtime = make_runtime(settings, clock, silent_seconds=settings.database_timeout / 1000)
    app = Flask("tidings", static_folder=None)
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.json.compact = True  # type: ignore[attr-defined]
    app.json.ensure_ascii = False  # type: ignore[attr-defined]
    app.extensions["tidings"] = runtime
    api.install(app, runtime)
    callbacks.install(app, runtime)
    health.install(app)
    web.install(app, runtime)
    return app
