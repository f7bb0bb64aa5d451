"""What every request passes before its view: a name, a size limit, a database that answers, who it is, how often, and
whether they may.

All routes under /api need authentication: it is asked for here and by path, so that a forgotten decorator cannot
open one; a route without an Access is closed to everybody. Outside /api nobody is asked, only counted.
"""

from __future__ import annotations

import re
from typing import cast

import structlog
from flask import Flask, Response, g, request

from app import tracing
from app.entrypoints.api import admission
from app.entrypoints.api.common import Doors, doors
from app.entrypoints.api.limits import LOGIN, Standing
from app.entrypoints.api.parsing import text_fault
from app.entrypoints.api.problems import RateLimitedError
from app.entrypoints.auth import Caller, credential_of
from app.errors import ForbiddenError, InvalidError, RequestError
from app.ids import new_id

LARGE = ("/api/send/", "/api/events/batch")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}

log = structlog.get_logger()


def install(app: Flask) -> None:
    """Put the gate before every view, in this order."""
    app.before_request(_name)
    app.before_request(_limit_size)
    app.before_request(_admit)
    app.after_request(_label)


def _name() -> None:
    given = request.headers.get("X-Request-Id", "")
    g.request_id = given if _REQUEST_ID.fullmatch(given) else new_id()
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=g.request_id)
    probe = request.path.startswith("/health/") or request.path == "/metrics"
    route = str(request.url_rule or "(none)") if tracing.is_on() and not probe else ""
    tracing.enter(request.headers.get("traceparent"), request.method, route)


def _limit_size() -> None:
    settings = doors().runtime.settings
    large = request.path.startswith(LARGE)
    request.max_content_length = settings.max_send_body_bytes if large else settings.max_body_bytes


def _admit() -> None:
    house, path = doors(), request.path
    if not (path == "/api" or path.startswith("/api/")):
        callback = path.startswith("/callbacks/")
        if not path.startswith("/health/"):
            _count(house, "callbacks" if callback else "public", _address())
        if callback:
            admission.look()
        return
    admission.look()
    g.caller = _authenticate(house)
    access = house.access.get(request.endpoint or "")
    if access is None:  # no such route: counted, and told so after the gate. A route that says nothing is closed.
        _count(house, "read", g.caller.identity)
        if request.endpoint is not None:
            raise ForbiddenError("This route is closed.")
        return
    _count(house, access.group, g.caller.identity)
    _authorize(g.caller, access.resource, access.action, access.persons)
    for name, value in (request.view_args or {}).items():
        if why := text_fault(str(value)):
            raise InvalidError({name: why})


def _authenticate(house: Doors) -> Caller:
    """The caller. Only failures are counted, by address, so that nobody can lock out others who share it.

    A wrong credential costs one look-up, however many came before.
    """
    try:
        return house.authenticator.caller(credential_of(request))
    except RequestError:
        _count(house, LOGIN, _address())
        raise


def _authorize(caller: Caller, resource: str, action: str, persons: bool) -> None:
    if caller.kind == "person":
        if not persons:
            raise ForbiddenError("People's tokens open only what is their own; this route takes an API key.")
        return
    caller.require(resource, action)


def _address() -> str:
    return request.remote_addr or "unknown"


def _count(house: Doors, group: str, identity: str) -> None:
    standing = house.limiter.hit(group, identity)
    g.rate = standing
    if standing.exceeded:
        raise RateLimitedError("Too many requests; see Retry-After.", standing.reset)


def _label(response: Response) -> Response:
    """The headers of every answer."""
    headers = response.headers
    given = {name.lower() for name, _ in headers}
    more = [("X-Request-Id", str(g.get("request_id", "")))]
    more += [(name, value) for name, value in _HEADERS.items() if name.lower() not in given]
    if request.path.startswith("/api/") and "cache-control" not in given:
        more.append(("Cache-Control", "no-store"))
    standing = cast(Standing | None, g.get("rate"))
    if standing is not None:
        more += [
            ("RateLimit-Limit", str(standing.limit)),
            ("RateLimit-Remaining", str(standing.remaining)),
            ("RateLimit-Reset", str(standing.reset)),
        ]
    headers.extend(more)
    tracing.leave(response.status_code)
    log.debug("request", method=request.method, endpoint=request.endpoint, status=response.status_code)
    return response
