"""/health/live: the process answers. /health/ready: it can work, or which part is down. /metrics: for Prometheus."""

from __future__ import annotations

import hmac
import ipaddress
from typing import cast

import structlog
from flask import Blueprint, Flask, Response, current_app, jsonify, request
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest, multiprocess
from sqlalchemy.exc import SQLAlchemyError

from app.core import sweeps
from app.core.runtime import Runtime
from app.errors import ForbiddenError, UnauthorizedError
from app.metrics import SHARED
from app.readiness import OK, Readiness, verdict

_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip", "Via")
_READINESS = "tidings.readiness"
SILENT_SECONDS, SILENT_SWEEPS = 60.0, 10  # whichever is longer: then no worker sweeps any more

blp = Blueprint("health", __name__)
log = structlog.get_logger()


def install(app: Flask) -> None:
    """Register the three routes."""
    runtime = cast(Runtime, app.extensions["tidings"])
    app.extensions[_READINESS] = Readiness(runtime.db, runtime.bell.broker)
    app.register_blueprint(blp)


@blp.get("/health/live")
def live() -> Response:
    """200 as long as the process answers."""
    return jsonify(status="ok")


@blp.get("/health/ready")
def ready() -> tuple[Response, int]:
    """200 when requests can be served, else 503; a part that is down has its reason.

    Redis and the workers may be away: degraded, for events are accepted all the same.
    """
    parts = cast(Readiness, current_app.extensions[_READINESS]).parts()
    if verdict(parts) != "down":
        parts["workers"] = _workers(cast(Runtime, current_app.extensions["tidings"]))
    found = verdict(parts)
    return jsonify(status=found, parts=parts), 503 if found == "down" else 200


def _workers(runtime: Runtime) -> str:
    """ok while some worker sweeps."""
    try:
        age = sweeps.seconds_since(runtime)
    except SQLAlchemyError as error:
        log.warning("database_not_ready", error=type(error).__name__)
        return "unknown"
    if age is None:
        return "never seen"
    longest = max(SILENT_SECONDS, SILENT_SWEEPS * runtime.settings.sweep_seconds)
    return OK if age < longest else f"silent for {age:.0f} s"


@blp.get("/metrics")
def metrics() -> Response:
    """Prometheus text, of all processes of this command."""
    _admit_scraper(cast(Runtime, current_app.extensions["tidings"]).settings.metrics_token)
    registry = REGISTRY
    if SHARED:
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry, str(SHARED))  # type: ignore[no-untyped-call]
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def _admit_scraper(token: str) -> None:
    """With a token: whoever has it. Without: only this machine, and nobody behind a proxy."""
    if token:
        given = request.authorization.token if request.authorization else None
        if not given or not hmac.compare_digest(given.encode(), token.encode()):
            raise UnauthorizedError("The metrics' token is needed.")
    elif not _local():
        raise ForbiddenError("Metrics are for this machine only; set METRICS_TOKEN to read them from elsewhere.")


def _local() -> bool:
    if any(name in request.headers for name in _FORWARDED):
        return False
    try:
        return ipaddress.ip_address(request.remote_addr or "").is_loopback
    except ValueError:
        return False
