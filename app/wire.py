"""PostgreSQL by libpq's own calls: prepared statements, values as text, one blocking call for each round trip.

psycopg's cursor costs 30 µs of CPU a statement more, and SQLAlchemy's session 100 µs. Used by `work.Work` only, on
connections of SQLAlchemy's pool.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import psycopg
from psycopg import pq
from psycopg.errors import error_from_result

_ROWS, _DONE = pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK
_EMPTY = pq.ExecStatus.EMPTY_QUERY


def _text(value: bytes) -> str:
    return value.decode()


# By the type's number in pg_type; of all others the text as it comes.
_LOADERS: Mapping[int, Callable[[bytes], Any]] = {
    16: lambda value: value == b"t",
    **dict.fromkeys((20, 21, 23, 26), int),  # bigint, smallint, integer, oid
    **dict.fromkeys((700, 701, 1700), float),  # real, double precision, numeric
    **dict.fromkeys((114, 3802), json.loads),
    1184: lambda value: datetime.fromisoformat(value.decode()),  # timestamptz; the connection's zone is UTC
}


class Wire:
    """One connection. `prepared` is {statement: its name there}, and lives as long as the connection."""

    def __init__(self, connection: psycopg.Connection[Any], prepared: dict[str, bytes]) -> None:
        self._wire = connection.pgconn
        self._encoding = "utf-8"
        self._prepared = prepared

    def simple(self, commands: bytes) -> bytes:
        """Run commands without parameters in one round trip. Returns the last one's tag (`COMMIT`)."""
        result = self._wire.exec_(commands)
        if result.status not in (_DONE, _ROWS, _EMPTY):
            raise error_from_result(result, self._encoding)
        return result.command_status or b""

    def run(self, statement: str, values: Sequence[Any]) -> tuple[tuple[str, ...], list[tuple[Any, ...]], int]:
        """Run a statement with `$1`, `$2`, …: (names of the columns, rows, how many rows it touched)."""
        name = self._prepared.get(statement) or self._prepare(statement)
        result = self._wire.exec_prepared(name, [dump(value) for value in values])
        if result.status == _ROWS:
            return _loaded(result)
        if result.status != _DONE:
            raise error_from_result(result, self._encoding)
        return (), [], result.command_tuples or 0

    def quoted(self, value: str) -> bytes:
        """A text as a literal of a simple command."""
        return bytes(pq.Escaping(self._wire).escape_literal(value.encode()))

    @property
    def broken(self) -> bool:
        """Whether the connection is of no more use."""
        return bool(self._wire.status != pq.ConnStatus.OK)

    @property
    def idle(self) -> bool:
        """Whether no transaction is open."""
        return bool(self._wire.transaction_status == pq.TransactionStatus.IDLE)

    def _prepare(self, statement: str) -> bytes:
        name = f"tidings_{len(self._prepared)}".encode()
        result = self._wire.prepare(name, statement.encode())
        if result.status != _DONE:
            raise error_from_result(result, self._encoding)
        self._prepared[statement] = name
        return name


def _loaded(result: Any) -> tuple[tuple[str, ...], list[tuple[Any, ...]], int]:
    columns, value = range(result.nfields), result.get_value
    names = tuple(result.fname(column).decode() for column in columns)
    loaders = [_LOADERS.get(result.ftype(column), _text) for column in columns]
    rows = []
    for row in range(result.ntuples):
        cells = [value(row, column) for column in columns]
        rows.append(tuple([None if c is None else load(c) for c, load in zip(cells, loaders, strict=True)]))
    return names, rows, result.command_tuples or 0


def dump(value: Any) -> Any:
    """A parameter as text, or None. Lists are arrays; JSON comes as text already."""
    if isinstance(value, str):
        return value.encode()
    if value is None:
        return None
    if isinstance(value, bool):
        return b"t" if value else b"f"
    if isinstance(value, int | float):
        return repr(value).encode()
    if isinstance(value, datetime):
        return value.isoformat().encode()
    if isinstance(value, list | tuple):
        return b"{" + b",".join(map(_element, value)) + b"}"
    raise TypeError(f"{type(value).__name__} is no parameter of a statement")


def _element(value: Any) -> bytes:
    if value is None:
        return b"NULL"
    text: bytes = dump(value)
    return b'"' + text.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
