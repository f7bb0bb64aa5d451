"""A transaction without the ORM, for what happens to every request and every delivery.

`Database.work(scope)` opens one. It has the two things of a session that core's statements need, `execute` and `info`,
and the same scopes hold in it. It wants statements that are made once, `text(…)` or `select(…)` with `bindparam`s:
each new one is compiled, which costs more than to run it.
"""

from __future__ import annotations

import sqlite3
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, Protocol, TypeVar
from weakref import WeakKeyDictionary

import psycopg
from sqlalchemy import ClauseElement
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.exc import DBAPIError, MultipleResultsFound, NoResultFound

from app.wire import Command, Wire, loaded

T = TypeVar("T")
L = TypeVar("L", bound="Callable[[Work], None]")
Names = tuple[str, ...]
_POSTGRES: Any = PGDialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]
_SQLITE: Any = sqlite.dialect(paramstyle="named")
_listeners: list[Callable[[Work], None]] = []


def after_commit(listener: L) -> L:
    """Have `listener` called with every Work that has committed."""
    _listeners.append(listener)
    return listener


class Found(list[T], Generic[T]):
    """What a statement returned, in order."""

    def all(self) -> list[T]:
        """All of it."""
        return self

    def first(self) -> T | None:
        """The first, or None."""
        return self[0] if self else None

    def one_or_none(self) -> T | None:
        """The only one, or None. Raises MultipleResultsFound."""
        if len(self) > 1:
            raise MultipleResultsFound(f"{len(self)} rows where one was expected")
        return self[0] if self else None

    def one(self) -> T:
        """The only one. Raises NoResultFound, MultipleResultsFound."""
        if not self:
            raise NoResultFound("no row where one was expected")
        return self[0] if len(self) == 1 else self.one_or_none()  # type: ignore[return-value]


class Rows(Found[Any]):
    """Rows whose columns are attributes and positions. `rowcount`: how many rows the statement touched."""

    def __init__(self, names: Names, rows: Sequence[tuple[Any, ...]], rowcount: int) -> None:
        super().__init__(map(_row_type(names)._make, rows) if rows else ())
        self._names = names
        self.rowcount = rowcount

    def scalars(self) -> Found[Any]:
        """The first column."""
        return Found(row[0] for row in self)

    def scalar(self) -> Any:
        """The first column of the first row, or None."""
        return self[0][0] if self else None

    def scalar_one(self) -> Any:
        """The first column of the only row. Raises NoResultFound, MultipleResultsFound."""
        return self.one()[0]

    def mappings(self) -> Found[dict[str, Any]]:
        """Each row as {column: value}."""
        return Found(dict(zip(self._names, row, strict=True)) for row in self)


@lru_cache(maxsize=512)
def _row_type(names: Names) -> Any:
    return namedtuple("Row", names, rename=True)


class Link(Protocol):
    """One connection while a transaction lasts."""

    postgres: bool

    def set_local(self, settings: Mapping[str, str | None]) -> None: ...
    def run(self, statement: Ready, values: Mapping[str, Any]) -> Rows: ...
    def defer(self, statement: Ready, values: Mapping[str, Any]) -> None: ...
    def commit(self) -> None: ...
    def roll_back(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Ready:
    """A statement in the words of one database, the names of its parameters in order, and how its columns are read."""

    text: str
    parameters: Names
    readers: Mapping[str, Callable[[Any], Any]]
    writers: Mapping[str, Callable[[Any], Any]]
    fixed: Mapping[str, Any]

    def given(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values of all parameters, as the driver takes them."""
        found = {**self.fixed, **values}
        for name, write in self.writers.items():
            if name in values:
                found[name] = write(values[name])
        return found


class Work:
    """See the module. `info` is what a session's is: the scope, the bell, the rings."""

    def __init__(self, link: Link, info: dict[str, Any]) -> None:
        self._link = link
        self.info = info
        self.postgres = link.postgres

    def set_local(self, settings: Mapping[str, str | None]) -> None:
        """Give settings of PostgreSQL's a value until the transaction ends; None: the connection's. SQLite has none."""
        self._link.set_local(settings)

    def execute(self, statement: ClauseElement, values: Mapping[str, Any] | None = None) -> Rows:
        """Run a statement. Raises what SQLAlchemy raises for the same fault."""
        return self._link.run(ready(statement, self.postgres), values or {})

    def defer(self, statement: ClauseElement, values: Mapping[str, Any] | None = None) -> None:
        """Run a statement whose answer nobody needs: in one round trip with the next one or the commit, which raises
        what is wrong with it."""
        self._link.defer(ready(statement, self.postgres), values or {})

    def commit(self) -> None:
        """End the transaction, and tell those who wait for that."""
        self._link.commit()
        for listener in _listeners:
            listener(self)

    def roll_back(self) -> None:
        """Undo everything."""
        self._link.roll_back()


_made: tuple[WeakKeyDictionary[ClauseElement, Ready], WeakKeyDictionary[ClauseElement, Ready]] = (
    WeakKeyDictionary(),
    WeakKeyDictionary(),
)


def ready(statement: ClauseElement, postgres: bool) -> Ready:
    """A statement, compiled once for as long as it lives."""
    found = _made[postgres].get(statement)
    if found is None:
        found = _made[postgres][statement] = _compiled(statement, _POSTGRES if postgres else _SQLITE)
    return found


def _compiled(statement: ClauseElement, dialect: Any) -> Ready:
    compiled: Any = statement.compile(dialect=dialect)
    if any(bind.expanding for bind in compiled.binds.values()):
        raise TypeError("a list is an array of one parameter here; IN would be another statement for each length")
    names = tuple(compiled.positiontup or ())
    readers = {}
    for column in getattr(statement, "selected_columns", ()):
        reader = column.type.dialect_impl(dialect).result_processor(dialect, None)
        if reader and dialect.name != "postgresql":  # there each type says itself how it is read
            readers[column.name] = reader
    writers = compiled._bind_processors
    fixed = {
        name: writers[name](value) if name in writers else value
        for name, value in compiled.params.items()
        if value is not None or not compiled.binds[name].required
    }
    return Ready(str(compiled), names, readers, writers, fixed)


class SqliteLink:
    """SQLite: sqlite3's own cursor. `check` refuses a statement that may not be run in the scope."""

    postgres = False

    def __init__(self, connection: sqlite3.Connection, check: Callable[[str], None], begin: str) -> None:
        """Begins the transaction with `begin`."""
        self._connection = connection
        self._plainly(begin)
        self._check = check

    def set_local(self, settings: Mapping[str, str | None]) -> None:
        """There are none."""

    def run(self, statement: Ready, values: Mapping[str, Any]) -> Rows:
        """See Work.execute."""
        self._check(statement.text)
        try:
            cursor = self._connection.execute(statement.text, statement.given(values))
            rows = cursor.fetchall()
        except sqlite3.Error as error:
            raise wrapped(error, statement.text, sqlite3.Error) from error
        names = tuple(column[0] for column in cursor.description or ())
        if statement.readers:
            readers = [statement.readers.get(name) for name in names]
            rows = [
                tuple([read(cell) if read else cell for cell, read in zip(row, readers, strict=True)]) for row in rows
            ]
        return Rows(names, rows, cursor.rowcount)

    def defer(self, statement: Ready, values: Mapping[str, Any]) -> None:
        """See Work.defer."""
        self.run(statement, values)

    def commit(self) -> None:
        """End the transaction."""
        self._plainly("COMMIT")

    def roll_back(self) -> None:
        """Undo everything."""
        if self._connection.in_transaction:
            self._plainly("ROLLBACK")

    def _plainly(self, command: str) -> None:
        try:
            self._connection.execute(command)
        except sqlite3.Error as error:
            raise wrapped(error, command, sqlite3.Error) from error


class PostgresLink:
    """PostgreSQL by its wire. What needs no answer waits for the next round trip."""

    postgres = True

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._waiting: list[Command] = [("BEGIN", ())]

    def set_local(self, settings: Mapping[str, str | None]) -> None:
        """See Work.set_local."""
        self._waiting.append((_set_local(tuple(settings)), tuple(settings.values())))

    def run(self, statement: Ready, values: Mapping[str, Any]) -> Rows:
        """See Work.execute."""
        self.defer(statement, values)
        return Rows(*loaded(self._exchange()[0]))

    def defer(self, statement: Ready, values: Mapping[str, Any]) -> None:
        """See Work.defer."""
        given = statement.given(values)
        self._waiting.append((statement.text, [given[name] for name in statement.parameters]))

    def commit(self) -> None:
        """End the transaction. Raises if nothing was committed, because a statement had failed."""
        self._waiting.append(("COMMIT", ()))
        _, tag = self._exchange()
        if tag != b"COMMIT":
            fault = psycopg.errors.InFailedSqlTransaction("a statement had failed: nothing was committed")
            raise wrapped(fault, "COMMIT", psycopg.Error)

    def roll_back(self) -> None:
        """Undo everything, as far as the connection still can."""
        self._waiting = []
        with suppress(psycopg.Error):
            self._wire.undo()

    def _exchange(self) -> tuple[Any, bytes]:
        commands, self._waiting = self._waiting, []
        try:
            return self._wire.exchange(commands)
        except psycopg.Error as error:
            raise wrapped(error, commands[-1][0], psycopg.Error, lost=self._wire.broken) from error


@lru_cache(maxsize=8)
def _set_local(names: Names) -> str:
    return "SELECT " + ", ".join(f"set_config('{name}', ${at}, true)" for at, name in enumerate(names, 1))


def wrapped(error: Exception, statement: str, base: type[Exception], *, lost: bool = False) -> Exception:
    """A driver's error as SQLAlchemy's, which everybody above knows. `lost`: the connection is of no more use."""
    made: Exception = DBAPIError.instance(
        statement, None, error, base, hide_parameters=True, connection_invalidated=lost
    )
    return made
