"""Faults of the database: "later" only for what passes, and for nothing else."""

from __future__ import annotations

import sqlite3
from typing import Any

import psycopg
import pytest
from psycopg import errors
from sqlalchemy.exc import DataError, OperationalError


def _sqlite(code: int) -> sqlite3.OperationalError:
    made = sqlite3.OperationalError("x")
    made.sqlite_errorcode = code
    return made


PASSING = [
    errors.lookup("08006")("gone"),
    errors.lookup("40P01")("deadlock"),
    errors.lookup("53100")("disk full"),
    errors.lookup("55P03")("lock"),
    errors.lookup("57P01")("shutdown"),
    psycopg.OperationalError("connection refused"),
    sqlite3.OperationalError("database is locked"),
    _sqlite(sqlite3.SQLITE_BUSY),
    _sqlite(sqlite3.SQLITE_FULL),
    _sqlite(sqlite3.SQLITE_IOERR | 3 << 8),
]
LASTING = [
    errors.lookup("54000")("index row too large"),
    errors.lookup("54001")("stack depth"),
    errors.lookup("22003")("out of range"),
    _sqlite(sqlite3.SQLITE_ERROR),
    _sqlite(sqlite3.SQLITE_TOOBIG),
]


def _answer(app: Any, auth: dict[str, str], error: Exception) -> Any:
    def broken() -> None:
        raise error

    app.view_functions["events.list_events"] = broken
    return app.test_client().get("/api/events", headers=auth)


@pytest.mark.parametrize("shape", ["embedded"])
@pytest.mark.parametrize("cause", PASSING, ids=repr)
def test_what_passes_is_tried_again_later(app: Any, auth: dict[str, str], cause: Exception) -> None:
    answer = _answer(app, auth, OperationalError("SELECT 1", {}, cause))

    assert (answer.status_code, answer.json["code"]) == (503, "database_unavailable")
    assert int(answer.headers["Retry-After"]) >= 1


@pytest.mark.parametrize("shape", ["embedded"])
@pytest.mark.parametrize("cause", LASTING, ids=repr)
def test_what_the_database_refuses_for_good_is_our_fault(app: Any, auth: dict[str, str], cause: Exception) -> None:
    kind = DataError if isinstance(cause, psycopg.DataError) else OperationalError
    answer = _answer(app, auth, kind("SELECT 1", {}, cause))

    assert (answer.status_code, answer.json["code"]) == (500, "internal_error")
    assert "Retry-After" not in answer.headers
