"""A transaction without the ORM, for what happens to every request and every delivery.

`Database.work(scope)` opens one. It has the two things of a session that core's statements need, `execute` and `info`,
and the same scopes hold in it. It takes statements that are made once: `text(…)`, or `select(…)` with `bindparam`s.
"""

from __future__ import annotations

import sqlite3
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, Protocol, TypeVar
from weakref import WeakKeyDictionary

import psycopg
from sqlalchemy import ClauseElement
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, MultipleResultsFound, NoResultFound

from app.wire import Wire

T = TypeVar("T")
L = TypeVar("L", bound="Callable[[Work], None]")
Names = tuple[str, ...]
_POSTGRES: Any = postgresql.dialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]
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

    def set_local(self, settings: Mapping[str, str]) -> None: ...
    def run(self, statement: Ready, values: Mapping[str, Any]) -> Rows: ...


@dataclass(frozen=True, slots=True)
class Ready:
    """A statement in the words of one database, the names of its parameters in order, and how its columns are read."""

    text: str
    parameters: Names
    readers: Mapping[str, Callable[[Any], Any]]
    fixed: Mapping[str, Any]


class Work:
    """See the module. `info` is what a session's is: the scope, the bell, the rings."""

    def __init__(self, link: Link, info: dict[str, Any]) -> None:
        self._link = link
        self.info = info
        self.postgres = link.postgres

    def set_local(self, settings: Mapping[str, str]) -> None:
        """Give settings of PostgreSQL's a value until the transaction ends. SQLite has none."""
        self._link.set_local(settings)

    def execute(self, statement: ClauseElement, values: Mapping[str, Any] | None = None) -> Rows:
        """Run a statement. Raises what SQLAlchemy raises for the same fault."""
        return self._link.run(ready(statement, self.postgres), values or {})

    def committed(self) -> None:
        """The transaction has committed: tell those who wait for it."""
        for listener in _listeners:
            listener(self)


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
    if compiled._post_compile_pattern.search(str(compiled)):
        raise TypeError("a list cannot be a parameter here: see rows.these")
    names = tuple(compiled.positiontup or ())
    readers = {}
    for column in getattr(statement, "selected_columns", ()):
        reader = column.type.dialect_impl(dialect).result_processor(dialect, None)
        if reader and dialect.name != "postgresql":  # there each type says itself how it is read
            readers[column.name] = reader
    fixed = {name: value for name, value in compiled.params.items() if value is not None}
    return Ready(str(compiled), names, readers, fixed)


class SqliteLink:
    """SQLite: sqlite3's own cursor. `check` refuses a statement that may not be run in the scope."""

    postgres = False

    def __init__(self, connection: sqlite3.Connection, check: Callable[[str], None]) -> None:
        self._connection = connection
        self._check = check

    def set_local(self, settings: Mapping[str, str]) -> None:
        """There are none."""

    def run(self, statement: Ready, values: Mapping[str, Any]) -> Rows:
        """See Work.execute."""
        self._check(statement.text)
        try:
            cursor = self._connection.execute(statement.text, {**statement.fixed, **values})
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


class PostgresLink:
    """PostgreSQL by its wire."""

    postgres = True

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._begun = False

    def set_local(self, settings: Mapping[str, str]) -> None:
        """Give settings a value until the transaction ends; the first time, begin it in the same round trip."""
        wire, first = self._wire, b"" if self._begun else b"BEGIN;"
        self._begun = True
        wire.simple(
            first + b";".join(b"SET LOCAL %s TO %s" % (n.encode(), wire.quoted(v)) for n, v in settings.items())
        )

    def run(self, statement: Ready, values: Mapping[str, Any]) -> Rows:
        """See Work.execute."""
        given, fixed = [], statement.fixed
        for name in statement.parameters:
            given.append(values[name] if name in values else fixed[name])
        try:
            return Rows(*self._wire.run(statement.text, given))
        except psycopg.Error as error:
            raise wrapped(error, statement.text, psycopg.Error, lost=self._wire.broken) from error


def wrapped(error: Exception, statement: str, base: type[Exception], *, lost: bool = False) -> Exception:
    """A driver's error as SQLAlchemy's, which everybody above knows. `lost`: the connection is of no more use."""
    made: Exception = DBAPIError.instance(
        statement, None, error, base, hide_parameters=True, connection_invalidated=lost
    )
    return made
