"""The database: engines, transactions, and who may see what in them.

Every transaction has a scope. `system` sees all tenants and is for a listed few purposes;
`tenant` sees one tenant; `person` sees one person of one tenant. PostgreSQL enforces it by
row-level security. SQLite has none, so a hook refuses, outside `system`, any statement on
a tenant table that does not name its tenant.
"""

from __future__ import annotations

import re
import select
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache, partial
from typing import Any, TypeAlias

import psycopg
from sqlalchemy import Connection, Dialect, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DisconnectionError, OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool

from app.wire import Prepared, Wire
from app.work import Link, PostgresLink, SqliteLink, Work, wrapped

Transaction: TypeAlias = Session | Work
"""What core's functions take: with the ORM for what people edit, without it for what happens to every delivery."""


class Purpose(StrEnum):
    """What a transaction may see every tenant for. A test holds this list."""

    AUTHENTICATE = "authenticate"
    CALLBACK = "callback"
    CLAIM = "claim"
    SWEEP = "sweep"
    MIGRATE = "migrate"
    ADMIT = "admit"


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose rows a transaction sees. Make one with `system`, `tenant` or `person`."""

    kind: str
    purpose: str = ""
    tenant_id: str = ""
    user_id: str = ""


def system(purpose: Purpose) -> Scope:
    """All tenants, for one of the listed purposes."""
    return Scope("system", purpose=purpose.value)


def tenant(tenant_id: str) -> Scope:
    """One tenant."""
    return Scope("tenant", tenant_id=tenant_id)


def person(tenant_id: str, user_id: str) -> Scope:
    """One person of one tenant."""
    return Scope("person", tenant_id=tenant_id, user_id=user_id)


class UnscopedStatementError(Exception):
    """A statement touches a tenant's table without saying which tenant: our bug, refused."""


_WRITE_LOCK_SECONDS = 30.0
_IDLE_SECONDS = 1.0
_SIZE = ("page_count", "page_size")
_VACUUMED_BYTES = 256 * 1024 * 1024  # some seconds' work
# A server that has gone without a word is noticed within half a minute, unless DATABASE_URL says otherwise.
_PATIENCE: Mapping[str, int] = {
    "connect_timeout": 5,
    "tcp_user_timeout": 15_000,  # milliseconds until what was sent has arrived
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}
_MORE_ON_POSTGRES, _MORE_ON_SQLITE = 4, 16  # connections beyond the pool's size, when all are in use
_SET_SCOPE = text(
    "SELECT set_config('tidings.scope', :kind, true), set_config('tidings.tenant', :tenant, true),"
    " set_config('tidings.person', :person, true)"
)


class Database:
    """One database. Open transactions with `transaction(scope)`; call `close()` at the end.

    `url` is `postgresql://…` or `sqlite:///path`. `pool_size` is how many threads may hold a connection at once.
    """

    def __init__(self, url: str, *, pool_size: int = 16) -> None:
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.engine = _sqlite_engine(url, pool_size) if self.is_sqlite else _postgres_engine(url, pool_size)
        self._reading = self.engine.execution_options(tidings_read=True)
        self._write_lock = threading.Lock()
        self._most_connections = pool_size + (_MORE_ON_SQLITE if self.is_sqlite else _MORE_ON_POSTGRES)
        self.bell: Any = None  # set by the application's wiring: who hears `outbox.ring_after_commit`

    @contextmanager
    def transaction(self, scope: Scope, *, read_only: bool = False) -> Iterator[Session]:
        """A session that commits at the end of the block, and rolls back if the block raises.

        `read_only` lets SQLite read while another thread writes.
        """
        with self._turn(read_only), Session(self._reading if read_only else self.engine, autoflush=False) as session:
            session.expire_on_commit = False
            session.info.update(scope=scope, bell=self.bell)
            with session.begin():
                apply_scope(scope, session.connection())
                yield session

    @contextmanager
    def work(self, scope: Scope, *, read_only: bool = False) -> Iterator[Work]:
        """As `transaction`, without the ORM: for the hot path. Who waits for the commit is told of it."""
        info = {"scope": scope, "bell": self.bell}
        with self._turn(read_only):
            borrowed = self._borrow()
            try:
                work = Work(self._link(borrowed, info, "BEGIN DEFERRED" if read_only else "BEGIN IMMEDIATE"), info)
                try:
                    apply_scope(scope, work)
                    yield work
                    work.commit()
                except BaseException:
                    work.roll_back()
                    raise
            finally:
                _give_back(borrowed)

    def _borrow(self) -> Any:
        """A connection of the pool. A database that is away is the same fault as for a transaction."""
        try:
            return self.engine.raw_connection()
        except psycopg.Error as error:
            raise wrapped(error, "CONNECT", psycopg.Error) from error
        except sqlite3.Error as error:
            raise wrapped(error, "CONNECT", sqlite3.Error) from error

    def _link(self, borrowed: Any, info: dict[str, Any], begin: str) -> Link:
        if self.is_sqlite:
            return SqliteLink(borrowed.driver_connection, partial(_check, info), begin)
        prepared = borrowed.info.get("tidings_prepared")
        if prepared is None:
            prepared = borrowed.info["tidings_prepared"] = Prepared()
        return PostgresLink(Wire(borrowed.driver_connection, prepared))

    @contextmanager
    def _turn(self, read_only: bool) -> Iterator[None]:
        """SQLite has one writer; waiting here is fairer and quicker than its own polling."""
        if read_only or not self.is_sqlite:
            with nullcontext():
                yield
            return
        if not self._write_lock.acquire(timeout=_WRITE_LOCK_SECONDS):
            raise OperationalError("BEGIN IMMEDIATE", {}, sqlite3.OperationalError("database is locked"))
        try:
            yield
        finally:
            self._write_lock.release()

    @property
    def exhausted(self) -> bool:
        """Whether every connection that may be opened is in use."""
        pool = self.engine.pool
        return isinstance(pool, QueuePool) and pool.checkedout() >= self._most_connections

    def ping(self) -> None:
        """Raises if the database does not answer."""
        with self.engine.connect() as connection:
            connection.exec_driver_sql("SELECT 1")

    def tidy(self) -> None:
        """Leave nothing of what was removed in SQLite's files: neither in its log nor between the rows of a page.

        A large file is not written anew, which would keep writers waiting for too long.
        """
        if not self.is_sqlite:
            return
        # Not within a transaction; and nothing of it may be open when somebody else gets the connection.
        with (
            self._turn(read_only=False),
            closing(self.engine.raw_connection()) as connection,
            closing(connection.cursor()) as cursor,
        ):
            pages, size = (cursor.execute(f"PRAGMA {name}").fetchall()[0][0] for name in _SIZE)
            if pages * size <= _VACUUMED_BYTES:
                cursor.execute("VACUUM")
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Give back every connection."""
        self.engine.dispose()


def narrow(session: Transaction, scope: Scope) -> None:
    """Go on in the same transaction with less to see: from `system`, having found whose turn it is, to its tenant."""
    session.info["scope"] = scope
    apply_scope(scope, session if isinstance(session, Work) else session.connection())


def apply_scope(scope: Scope, connection: Connection | Work) -> None:
    """Tell the database whose transaction this is. The only place that does; on SQLite its guard reads it."""
    if isinstance(connection, Work):
        named = {"tidings.scope": scope.kind, "tidings.tenant": scope.tenant_id, "tidings.person": scope.user_id}
        connection.set_local(named)
    elif connection.dialect.name == "sqlite":
        connection.info["tidings_scope"] = scope
    else:
        values = {"kind": scope.kind, "tenant": scope.tenant_id, "person": scope.user_id}
        connection.execute(_SET_SCOPE, values)


def _give_back(borrowed: Any) -> None:
    """To the pool, unless the connection is dead or somewhere in the middle of a conversation."""
    connection = borrowed.driver_connection
    if isinstance(connection, psycopg.Connection) and Wire(connection, Prepared()).broken:
        borrowed.invalidate()
    borrowed.close()


def _postgres_engine(url: str, pool_size: int) -> Engine:
    address = make_url(url).set(drivername="postgresql+psycopg")
    engine = create_engine(
        address,
        pool_size=pool_size,
        max_overflow=_MORE_ON_POSTGRES,
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
    event.listen(engine, "checkin", _note_use)
    event.listen(engine, "checkout", partial(_ping_if_idle, engine.dialect))
    return engine


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


def _sqlite_engine(url: str, pool_size: int) -> Engine:
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=_MORE_ON_SQLITE,
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
    _check({"scope": connection.info.get("tidings_scope")}, statement)


def _check(info: dict[str, Any], statement: str) -> None:
    scope: Scope | None = info["scope"]
    if (scope is None or scope.kind != "system") and not names_its_tenant(statement):
        raise UnscopedStatementError(f"a statement on a tenant table names no tenant: {statement[:200]}")


_TENANT_TABLES: set[str] = set()
# Compared with a value that the caller gives, after WHERE: not set, and not compared with another column.
_PREDICATE = re.compile(r"\bwhere\b.*\b(?:tenant_id|tenants\.id)\"?\s*=\s*[?:]", re.IGNORECASE | re.DOTALL)


def register_tenant_table(name: str) -> None:
    """Models say which tables belong to tenants."""
    _TENANT_TABLES.add(name)


@lru_cache(maxsize=2048)
def names_its_tenant(statement: str) -> bool:
    """Whether a statement leaves tenant tables alone, or says which tenant it means."""
    words = set(re.findall(r"\w+", statement.lower()))
    if not words & _TENANT_TABLES:
        return True
    if statement.lstrip()[:6].upper() == "INSERT":
        return "tenant_id" in words
    return bool(_PREDICATE.search(statement))
