"""/health/live: the process answers. /health/ready: it can work, or which part is down. /metrics: for Prometheus."""

from __future__ import annotations

import hmac
import ipaddress
from typing import Any, cast

import structlog
from flask import Blueprint, Flask, Response, current_app, jsonify, request
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest, multiprocess, values
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from app.core.runtime import Runtime
from app.errors import ForbiddenError, UnauthorizedError
from app.standing import standing

_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip", "Via")
_MIGRATED = "tidings.migrated"

blp = Blueprint("health", __name__)
log = structlog.get_logger()


def install(app: Flask) -> None:
    """Register the three routes."""
    app.register_blueprint(blp)


@blp.get("/health/live")
def live() -> Response:
    """200 as long as the process answers."""
    return jsonify(status="ok")


@blp.get("/health/ready")
def ready() -> tuple[Response, int]:
    """200 when requests can be served, else 503; the part that is down has its reason. Redis may be away: degraded."""
    runtime = cast(Runtime, current_app.extensions["tidings"])
    parts = {"database": _database(runtime), "redis": _redis(runtime)}
    shown = {name: state for name, state in parts.items() if state}
    if shown["database"] != "ok":
        return jsonify(status="down", parts=shown), 503
    degraded = any(state != "ok" for state in shown.values())
    return jsonify(status="degraded" if degraded else "ok", parts=shown), 200


def _database(runtime: Runtime) -> str:
    """ok, unreachable, or how the schema stands to this code."""
    try:
        if current_app.extensions.get(_MIGRATED):
            runtime.db.ping()
            return "ok"
        found = standing(runtime.db)
    except SQLAlchemyError as error:
        log.warning("database_not_ready", error=type(error).__name__)
        return "unreachable"
    if found != "current":
        return f"schema {found}"
    current_app.extensions[_MIGRATED] = True  # reading the migrations again each time would cost more than the ping
    return "ok"


def _redis(runtime: Runtime) -> str:
    """ok or unreachable; nothing when there is none."""
    client = getattr(runtime.bell.broker, "client", None)
    if not isinstance(client, Redis):
        return ""
    try:
        client.ping()
    except (RedisError, OSError):
        return "unreachable"
    return "ok"


@blp.get("/metrics")
def metrics() -> Response:
    """Prometheus text, of all web processes when PROMETHEUS_MULTIPROC_DIR is set."""
    _admit_scraper(cast(Runtime, current_app.extensions["tidings"]).settings.metrics_token)
    registry: Any = REGISTRY
    if getattr(values.ValueClass, "_multiprocess", False):
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
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
