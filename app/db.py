"""The database: its transactions, and what each may see.

Every transaction has a scope. `system` sees all tenants and is for a listed few purposes;
`tenant` sees one tenant; `person` sees one person of one tenant. PostgreSQL enforces it by
row-level security. SQLite has none, so a hook refuses, outside `system`, any statement on
a tenant table that does not name its tenant.
"""

from __future__ import annotations

import math
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Any, TypeAlias

import psycopg
from sqlalchemy import Connection, TextClause, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool

from app.engines import MORE_ON_POSTGRES, MORE_ON_SQLITE, postgres_engine, sqlite_engine
from app.patience import PatientConnection
from app.tenancy import Scope, check
from app.wire import Prepared, Wire
from app.work import Link, PostgresLink, SqliteLink, Work, wrapped

Transaction: TypeAlias = Session | Work
"""What core's functions take: with the ORM for what people edit, without it for what happens to every delivery."""


_WRITE_LOCK_SECONDS = 30.0
_SIZE = ("page_count", "page_size")
_VACUUMED_BYTES = 256 * 1024 * 1024  # some seconds' work
_IN_ORDER = {"enable_sort": "off", "jit": "off"}  # a plan that may not sort and does looks worth compiling
_AS_USUAL = dict.fromkeys(_IN_ORDER)  # what the connection has, which may be the operator's choice
# Of the patience with a silent server. What merely takes long it ends itself before, and with it its locks.
_SERVERS_SHARE = 0.9


class Database:
    """One database. Open transactions with `transaction(scope)`; call `close()` at the end.

    `url` is `postgresql://…` or `sqlite:///path`. `pool_size` is how many threads may hold a connection at once. With
    `silent_seconds` a PostgreSQL that leaves a statement without a word for so long is as good as away; one that works
    at it ends it shortly before.
    """

    def __init__(self, url: str, *, pool_size: int = 16, silent_seconds: float = math.inf) -> None:
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.engine = (
            sqlite_engine(url, pool_size) if self.is_sqlite else postgres_engine(url, pool_size, silent_seconds)
        )
        self._bounds: dict[str, str] = {}
        if not self.is_sqlite and math.isfinite(silent_seconds):
            self._bounds["statement_timeout"] = str(max(1, round(silent_seconds * 1000 * _SERVERS_SHARE)))
        self._reading = self.engine.execution_options(tidings_read=True)
        self._write_lock = threading.Lock()
        self._most_connections = pool_size + (MORE_ON_SQLITE if self.is_sqlite else MORE_ON_POSTGRES)
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
                apply_scope(scope, session.connection(), self._bounds)
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
                    apply_scope(scope, work, self._bounds)
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
            return SqliteLink(borrowed.driver_connection, partial(check, info), begin)
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


@contextmanager
def in_order(session: Transaction) -> Iterator[None]:
    """Within the block PostgreSQL follows the index that has the rows in the order wanted.

    It takes columns for independent, so it expects far less to be due than there may be, and would sort all that waits
    to find the first hundred. For statements of that kind only: others it may drive to read whole tables. Without the
    ORM only; a session's statements are planned as usual.
    """
    if not isinstance(session, Work):
        yield
        return
    session.set_local(_IN_ORDER)
    yield
    session.set_local(_AS_USUAL)


def narrow(session: Transaction, scope: Scope) -> None:
    """Go on in the same transaction with less to see: from `system`, having found whose turn it is, to its tenant."""
    session.info["scope"] = scope
    apply_scope(scope, session if isinstance(session, Work) else session.connection())


def apply_scope(scope: Scope, connection: Connection | Work, more: Mapping[str, str] = MappingProxyType({})) -> None:
    """Tell the database whose transaction this is. The only place that does; on SQLite its guard reads it.

    `more`: other settings of PostgreSQL's, until the transaction ends.
    """
    named = {"tidings.scope": scope.kind, "tidings.tenant": scope.tenant_id, "tidings.person": scope.user_id, **more}
    if isinstance(connection, Work):
        connection.set_local(named)
    elif connection.dialect.name == "sqlite":
        connection.info["tidings_scope"] = scope
    else:
        connection.execute(_setting(tuple(named)), {f"at{at}": value for at, value in enumerate(named.values())})


@lru_cache(maxsize=4)
def _setting(names: tuple[str, ...]) -> TextClause:
    return text("SELECT " + ", ".join(f"set_config('{name}', :at{at}, true)" for at, name in enumerate(names)))


def _give_back(borrowed: Any) -> None:
    """To the pool, unless the connection is dead or somewhere in the middle of a conversation."""
    connection = borrowed.driver_connection
    if isinstance(connection, PatientConnection) and Wire(connection, Prepared()).broken:
        borrowed.invalidate()
    borrowed.close()
