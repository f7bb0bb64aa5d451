"""PostgreSQL by libpq's own calls: prepared statements, values as text, several statements in one round trip.

psycopg's cursor costs 30 µs of CPU a statement more, and SQLAlchemy's session 100 µs; each round trip costs both ends
some 50 µs. Used by `work.Work` only, on connections of SQLAlchemy's pool.

A connection that is lost while COMMIT is under way leaves open whether it was carried out: `exchange` raises, and what
was written may be there. So whoever tries again writes what may be written twice (ids made from the event, results
fenced by their attempt, idempotency keys); everybody else leaves it to the sweep, which goes by the rows.
"""

from __future__ import annotations

import hashlib
import json
import select
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

import psycopg
from psycopg import pq
from psycopg.errors import error_from_result

from app.patience import PatientConnection, Silence

Command = tuple[str, Sequence[Any]]
"""A statement with `$1`, `$2`, … and its values."""
Table = tuple[tuple[str, ...], list[tuple[Any, ...]], int]
"""Names of the columns, rows, how many rows were touched."""

_ROWS, _DONE, _END = pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK, pq.ExecStatus.PIPELINE_SYNC
_LOOK_UP_MS = 500  # so often a thread that waits can be told to stop
_MOST_PREPARED = 400  # a connection; each holds memory of the server's. What comes later is parsed each time
_UNKNOWN_NAME, _NAME_TAKEN, _NOT_SUPPORTED = "26000", "42P05", "0A000"
_OLD_PLAN = "cached plan must not change result type"
_generation = 0  # raised when prepared statements turned out to be stale: then they are so on other connections too


@dataclass(slots=True)
class Prepared:
    """What a connection's server knows already: {statement: its name there}. Lives as long as the connection."""

    names: dict[str, bytes] = field(default_factory=dict)
    generation: int = field(default_factory=lambda: _generation)


class StaleError(psycopg.OperationalError):
    """A prepared statement is gone, or the table has changed under it. In another transaction it works."""


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
    """One connection, and what was prepared on it."""

    def __init__(self, connection: PatientConnection, prepared: Prepared) -> None:
        self._wire = connection.pgconn
        self._seconds = connection.seconds
        self._prepared = prepared

    def exchange(self, commands: Sequence[Command]) -> tuple[Any, bytes]:
        """Run commands in order, in one round trip: (what the last one returned, see `loaded`; its tag).

        Raises psycopg's error for the first that fails; those after it were not run. Statements that are prepared anew
        are nobody's fault: a transaction that begins here begins once more; in the middle of one it is StaleError,
        and the connection is closed.
        """
        ready = [(statement, [dump(value) for value in values]) for statement, values in commands]
        begins = commands[0][0] == "BEGIN"
        if begins and self._prepared.generation != _generation:
            self._forget()
        try:
            return self._exchange(ready)
        except StaleError:
            if not begins or self.broken:
                self._wire.finish()
                raise
        self._forget()
        return self._exchange(ready)

    def undo(self) -> None:
        """Roll back, if a transaction is open. A connection that was left in the middle of an exchange is broken."""
        if not self.broken and self._wire.transaction_status != pq.TransactionStatus.IDLE:
            self._plainly(b"ROLLBACK")

    @property
    def broken(self) -> bool:
        """Whether the connection is of no more use."""
        return bool(self._wire.status != pq.ConnStatus.OK or self._wire.pipeline_status != pq.PipelineStatus.OFF)

    def _exchange(self, commands: Sequence[Command]) -> tuple[Any, bytes]:
        wire = self._wire
        wire.enter_pipeline_mode()
        fresh = self._send(commands)
        wire.pipeline_sync()
        self._flush()
        fault, last = None, None
        for position, result in enumerate(self._results()):
            if fault is None and result.status not in (_DONE, _ROWS):
                fault = result
            elif fault is None and position in fresh:
                self._prepared.names.update([fresh[position]])
            last = result
        if wire.status == pq.ConnStatus.OK:
            wire.exit_pipeline_mode()
        if fault is not None:
            raise _fault(fault)
        return last, (last.command_status or b"") if last else b""

    def _forget(self) -> None:
        """Have nothing prepared any more, whatever state the transaction is in."""
        self.undo()
        self._prepared.names.clear()
        self._prepared.generation = _generation
        if (said := self._plainly(b"DEALLOCATE ALL")).status != _DONE:
            raise error_from_result(said, "utf-8")

    def _plainly(self, command: bytes) -> Any:
        """One command that is not prepared, on its own: what it returned."""
        self._wire.send_query(command)
        self._flush()
        return list(self._results())[-1]

    def _send(self, commands: Sequence[Command]) -> dict[int, tuple[str, bytes]]:
        """Send all; returns {position of a result: (statement, name)} of those that had to be prepared first."""
        wire, known, position = self._wire, dict(self._prepared.names), 0
        fresh: dict[int, tuple[str, bytes]] = {}
        for statement, values in commands:
            name = known.get(statement)
            if name is None and len(known) >= _MOST_PREPARED:
                wire.send_query_params(statement.encode(), values)
                position += 1
                continue
            if name is None:
                name = known[statement] = _name(statement)
                wire.send_prepare(name, statement.encode())
                fresh[position] = (statement, name)
                position += 1
            wire.send_query_prepared(name, values)
            position += 1
        return fresh

    def _flush(self) -> None:
        """Send what is left, and take what comes meanwhile, so that no side waits for the other."""
        wire, wait, silence = self._wire, select.poll(), Silence(self._wire, self._seconds)
        wait.register(wire.socket, select.POLLIN | select.POLLOUT)
        while wire.flush():
            came = wait.poll(_LOOK_UP_MS)
            silence.heard(came)
            for _, heard in came:
                if heard & ~select.POLLOUT:
                    wire.consume_input()

    def _results(self) -> Iterator[Any]:
        wire, wait, silence = self._wire, select.poll(), Silence(self._wire, self._seconds)
        wait.register(wire.socket, select.POLLIN)
        while True:
            while wire.is_busy():
                came = wait.poll(_LOOK_UP_MS)
                silence.heard(came)
                if came:
                    wire.consume_input()  # also when the socket has died: then it raises
            result = wire.get_result()
            if result is not None:
                if result.status == _END:
                    return
                yield result
            elif wire.status != pq.ConnStatus.OK:
                raise psycopg.OperationalError("the connection was lost")
            elif wire.pipeline_status == pq.PipelineStatus.OFF:
                return


@lru_cache(maxsize=1024)
def _name(statement: str) -> bytes:
    """The same for the same words: whoever shares a server's connection meets no other statement under its name."""
    return b"tidings_" + hashlib.blake2b(statement.encode(), digest_size=12).hexdigest().encode()


def _fault(result: Any) -> psycopg.Error:
    """The error that a result is. What says that prepared statements are stale, is StaleError."""
    global _generation
    error: psycopg.Error = error_from_result(result, "utf-8")
    if error.sqlstate in (_UNKNOWN_NAME, _NAME_TAKEN) or (error.sqlstate == _NOT_SUPPORTED and _OLD_PLAN in str(error)):
        _generation += 1
        return StaleError(str(error))
    return error


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
    """A parameter as text, or None. Lists are arrays; JSON comes as text already.

    Raises psycopg.DataError for what PostgreSQL cannot hold: NUL, half of a surrogate pair.
    """
    if isinstance(value, str):
        if "\0" in value:
            raise psycopg.DataError("PostgreSQL's text cannot contain NUL")  # libpq would cut it off there
        try:
            return value.encode()
        except UnicodeEncodeError as error:
            raise psycopg.DataError(str(error)) from error
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
