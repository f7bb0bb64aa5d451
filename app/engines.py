"""SQLAlchemy's engines: how connections are made, kept and found dead, for each of the two databases."""

from __future__ import annotations

import select
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import psycopg
from sqlalchemy import Connection, Dialect, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DisconnectionError

from app.patience import PatientConnection
from app.tenancy import check

_IDLE_SECONDS = 1.0
# A server that has gone without a word is noticed within half a minute, unless DATABASE_URL says otherwise.
_PATIENCE: Mapping[str, int] = {
    "connect_timeout": 5,
    "tcp_user_timeout": 15_000,  # milliseconds until what was sent has arrived
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}
MORE_ON_POSTGRES, MORE_ON_SQLITE = 4, 16  # connections beyond the pool's size, when all are in use


def postgres_engine(url: str, pool_size: int, silent_seconds: float) -> Engine:
    """`pool_size` is how many connections are kept; a server may be silent for `silent_seconds`."""
    address = make_url(url).set(drivername="postgresql+psycopg")
    engine = create_engine(
        address,
        pool_size=pool_size,
        max_overflow=MORE_ON_POSTGRES,
        pool_reset_on_return=None,  # whoever opens a transaction ends it; the pool would ask each time
        pool_recycle=1800,
        connect_args={
            **{name: value for name, value in _PATIENCE.items() if name not in address.query},
            "options": "-c timezone=UTC",
            "client_encoding": "UTF8",
            # psycopg would drop all prepared statements of a connection, also ours, with each rollback.
            "prepare_threshold": None,
        },
    )
    event.listen(engine, "do_connect", partial(_connect, silent_seconds))
    event.listen(engine, "checkin", _note_use)
    event.listen(engine, "checkout", partial(_ping_if_idle, engine.dialect))
    return engine


def _connect(silent_seconds: float, _dialect: Dialect, _record: Any, args: Any, parameters: Any) -> PatientConnection:
    made = PatientConnection.connect(*args, **parameters)
    made.seconds = silent_seconds
    return made


def _note_use(_dbapi_connection: Any, record: Any) -> None:
    record.info["tidings_used"] = time.monotonic()


def _ping_if_idle(dialect: Dialect, dbapi_connection: Any, record: Any, _proxy: Any) -> None:
    """A connection that lay idle may be dead: ask before it is used. `pool_pre_ping` would ask every time."""
    used = record.info.get("tidings_used", 0.0)
    if time.monotonic() - used < _IDLE_SECONDS and not _has_spoken(dbapi_connection):
        return
    try:
        dialect.do_ping(dbapi_connection)
    except Exception as error:
        raise DisconnectionError("the connection has died") from error  # the pool makes new ones


def _has_spoken(dbapi_connection: Any) -> bool:
    """Whether the server has said something unasked, which is nearly always that it has gone. Costs no round trip."""
    heard = select.poll()
    try:
        heard.register(dbapi_connection.pgconn.socket, select.POLLIN)
    except psycopg.OperationalError:
        return True
    return bool(heard.poll(0))


def sqlite_engine(url: str, pool_size: int) -> Engine:
    """`pool_size` is how many connections are kept."""
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=MORE_ON_SQLITE,
        connect_args={"check_same_thread": False, "timeout": 10.0},
    )
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    event.listen(engine, "checkin", _forget_scope)
    event.listen(engine, "before_cursor_execute", _refuse_unscoped)
    return engine


def _configure_sqlite(dbapi_connection: Any, _record: Any) -> None:
    dbapi_connection.isolation_level = None  # we say BEGIN ourselves
    for pragma in (
        *("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000", "foreign_keys=ON"),
        "secure_delete=ON",  # what is removed is overwritten
    ):
        dbapi_connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    read_only = connection.get_execution_options().get("tidings_read", False)
    connection.exec_driver_sql("BEGIN DEFERRED" if read_only else "BEGIN IMMEDIATE")


def _forget_scope(_dbapi_connection: Any, record: Any) -> None:
    record.info.pop("tidings_scope", None)


def _refuse_unscoped(
    connection: Connection, _cursor: Any, statement: str, _parameters: Any, _context: Any, _many: bool
) -> None:
    check({"scope": connection.info.get("tidings_scope")}, statement)
