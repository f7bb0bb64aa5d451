"""Every fault as problem+json (RFC 9457): {type, title, status, detail, code, errors: [{field, message}]}.

`code` is stable and meant for machines. Views and core raise `app.errors`; nobody else builds an answer for a fault.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from flask import Flask, Response, g
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import HTTPException

from app.errors import InvalidError, RequestError, UnauthorizedError

MEDIA_TYPE = "application/problem+json"
_CODES = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "unsupported_media_type",
}
_DETAILS = {
    400: "The request cannot be understood.",
    404: "There is nothing here.",
    405: "This resource does not know that method.",
    413: "The body is larger than this route takes.",
    415: "The body must be JSON (Content-Type: application/json).",
}
_DATABASE_RETRY_SECONDS = 5
# PostgreSQL's classes of SQLSTATE: connection, transaction rollback (deadlock), resources, locks, shutdown.
_PASSING_CLASSES = frozenset({"08", "40", "53", "55", "57"})
_PASSING_CODES = frozenset(
    {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}
)

log = structlog.get_logger()


class RateLimitedError(RequestError):
    """Too many requests. `retry_after`: seconds."""

    status = 429
    code = "rate_limited"

    def __init__(self, detail: str, retry_after: int) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class MediaTypeError(RequestError):
    """The body is of a kind that we do not read."""

    status = 415
    code = "unsupported_media_type"


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    errors: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The answer for a fault. `errors` is {path of the field: what is wrong}."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
    }
    if errors is not None:
        body["errors"] = [{"field": field, "message": message} for field, message in errors.items()]
    if status >= 500:
        body["requestId"] = g.get("request_id", "")
    # Plain ASCII: a field's name may be what nothing else could encode.
    return Response(json.dumps(body), status, dict(headers or {}), mimetype=MEDIA_TYPE)


def install(app: Flask) -> None:
    """Register the handlers, for the whole application."""
    app.register_error_handler(RequestError, _refused)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(DBAPIError, _database)
    app.register_error_handler(PoolTimeout, _database)
    app.register_error_handler(Exception, _unexpected)


def _refused(error: RequestError) -> Response:
    headers = {}
    if isinstance(error, UnauthorizedError):
        headers["WWW-Authenticate"] = 'Bearer realm="tidings"'
    if (seconds := getattr(error, "retry_after", None)) is not None:
        headers["Retry-After"] = str(seconds)
    fields = error.fields if isinstance(error, InvalidError) else None
    return problem(error.status, error.code, error.detail, errors=fields, headers=headers)


def _http(error: HTTPException) -> Response:
    status = error.code or 500
    if status < 400:  # a redirect to the canonical spelling of the URL
        return error.get_response()  # type: ignore[return-value]
    if status >= 500:
        return _unexpected(error)
    headers = {name: value for name, value in error.get_headers() if name in ("Allow", "Retry-After")}
    code = _CODES.get(status, HTTPStatus(status).name.lower())
    return problem(status, code, _DETAILS.get(status, HTTPStatus(status).description), headers=headers)


def _database(error: DBAPIError | PoolTimeout) -> Response:
    """Locked, away, full or out of connections: later may be better. Anything else is refused for good: our bug."""
    if isinstance(error, DBAPIError) and not _may_pass(error):
        return _unexpected(error)
    log.error("database_unavailable", error=type(getattr(error, "orig", None) or error).__name__, exc_info=error)
    headers = {"Retry-After": str(_DATABASE_RETRY_SECONDS)}
    return problem(503, "database_unavailable", "The database does not answer just now.", headers=headers)


def _may_pass(error: DBAPIError) -> bool:
    """Whether the fault lies with the state of the database and not with what it was asked."""
    sqlstate, code = getattr(error.orig, "sqlstate", None), getattr(error.orig, "sqlite_errorcode", None)
    if error.connection_invalidated:
        return True
    if isinstance(sqlstate, str):
        return sqlstate[:2] in _PASSING_CLASSES
    if isinstance(code, int):
        return code & 0xFF in _PASSING_CODES  # the rest are details of these
    return isinstance(error, OperationalError)  # no word from the database itself: it was not reached


def _unexpected(error: Exception) -> Response:
    cause = getattr(error, "original_exception", None) or error
    log.error("unhandled_exception", error=type(cause).__name__, exc_info=cause)
    return problem(500, "internal_error", "Something went wrong on our side. It is logged under the request id.")
