"""PostgreSQL by libpq's own calls: prepared statements, values as text, several statements in one round trip.

psycopg's cursor costs 30 µs of CPU a statement more, and SQLAlchemy's session 100 µs; each round trip costs both ends
some 50 µs. Used by `work.Work` only, on connections of SQLAlchemy's pool.
"""

from __future__ import annotations

import itertools
import json
import select
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import psycopg
from psycopg import pq
from psycopg.errors import error_from_result

Command = tuple[str, Sequence[Any]]
"""A statement with `$1`, `$2`, … and its values."""
Table = tuple[tuple[str, ...], list[tuple[Any, ...]], int]
"""Names of the columns, rows, how many rows were touched."""

_ROWS, _DONE, _END = pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK, pq.ExecStatus.PIPELINE_SYNC
_names = itertools.count()
_LOOK_UP_MS = 500  # so often a thread that waits can be told to stop


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
        self._prepared = prepared

    def exchange(self, commands: Sequence[Command]) -> tuple[Any, bytes]:
        """Run commands in order, in one round trip: (what the last one returned, see `loaded`; its tag).

        Raises psycopg's error for the first that fails; those after it were not run.
        """
        wire = self._wire
        wire.enter_pipeline_mode()
        fresh = self._send(commands)
        wire.pipeline_sync()
        while wire.flush():
            select.select([], [wire.socket], [], _LOOK_UP_MS / 1000)
        fault, last = None, None
        for position, result in enumerate(self._results()):
            if fault is None and result.status not in (_DONE, _ROWS):
                fault = result
            elif fault is None and position in fresh:
                self._prepared.update([fresh[position]])
            last = result
        if wire.status == pq.ConnStatus.OK:
            wire.exit_pipeline_mode()
        if fault is not None:
            raise error_from_result(fault, "utf-8")
        return last, (last.command_status or b"") if last else b""

    def undo(self) -> None:
        """Roll back, if a transaction is open. A connection that was left in the middle of an exchange is broken."""
        if not self.broken and self._wire.transaction_status != pq.TransactionStatus.IDLE:
            self._wire.exec_(b"ROLLBACK")

    @property
    def broken(self) -> bool:
        """Whether the connection is of no more use."""
        return bool(self._wire.status != pq.ConnStatus.OK or self._wire.pipeline_status != pq.PipelineStatus.OFF)

    def _send(self, commands: Sequence[Command]) -> dict[int, tuple[str, bytes]]:
        """Send all; returns {position of a result: (statement, name)} of those that had to be prepared first."""
        wire, fresh, position = self._wire, dict[int, tuple[str, bytes]](), 0
        for statement, values in commands:
            name = self._prepared.get(statement) or dict(fresh.values()).get(statement)
            if name is None:
                name = f"tidings_{next(_names)}".encode()
                wire.send_prepare(name, statement.encode())
                fresh[position] = (statement, name)
                position += 1
            wire.send_query_prepared(name, [dump(value) for value in values])
            position += 1
        return fresh

    def _results(self) -> Iterator[Any]:
        wire, wait = self._wire, select.poll()
        wait.register(wire.socket, select.POLLIN)
        while True:
            while wire.is_busy():
                if wait.poll(_LOOK_UP_MS):
                    wire.consume_input()
            result = wire.get_result()
            if result is not None:
                if result.status == _END:
                    return
                yield result
            elif wire.status != pq.ConnStatus.OK:
                raise psycopg.OperationalError("the connection was lost")


def loaded(result: Any) -> Table:
    """A result as Python's values."""
    if result.status != _ROWS:
        return (), [], result.command_tuples or 0
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
