"""One bare table, on SQLite or PostgreSQL: what the bare loop and the bare server write, and nothing besides."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from app.ids import new_id

_SQLITE = (
    "CREATE TABLE IF NOT EXISTS bare (id TEXT PRIMARY KEY, address TEXT, data TEXT, status TEXT, result TEXT)",
    "INSERT INTO bare SELECT json_extract(value, '$.id'), json_extract(value, '$.address'),"
    " json_extract(value, '$.data'), 'pending', NULL FROM json_each(?)",
    "UPDATE bare SET status = 'sent', result = json_extract(r.value, '$.result')"
    " FROM json_each(?) r WHERE bare.id = json_extract(r.value, '$.id')",
)
_POSTGRES = (
    "CREATE TABLE IF NOT EXISTS bare (id uuid PRIMARY KEY, address text, data text, status text, result text)",
    "INSERT INTO bare SELECT id, address, data, 'pending', NULL"
    " FROM jsonb_to_recordset(%s) AS r(id uuid, address text, data text)",
    "UPDATE bare SET status = 'sent', result = r.result"
    " FROM jsonb_to_recordset(%s) AS r(id uuid, result text) WHERE bare.id = r.id",
)


class BareStore:
    """One connection to the table, made if need be. `target`: `sqlite:<path>` or a PostgreSQL URL."""

    def __init__(self, target: str) -> None:
        self._sqlite = target.startswith("sqlite:")
        self._connection: Any
        if self._sqlite:
            self._connection = sqlite3.connect(target.removeprefix("sqlite:"), isolation_level=None, timeout=30)
            for pragma in ("journal_mode=WAL", "synchronous=FULL"):
                self._connection.execute(f"PRAGMA {pragma}")
        else:
            self._connection = psycopg.connect(target, autocommit=True)
        self._statements = _SQLITE if self._sqlite else _POSTGRES

    @property
    def backend(self) -> int:
        """The process id of the database's end; 0 for SQLite, which has none."""
        return 0 if self._sqlite else int(self._connection.info.backend_pid)

    def create(self) -> None:
        """Make the table. PostgreSQL: as its owner."""
        self._connection.execute(self._statements[0])

    def insert(self, rows: Sequence[dict[str, str]]) -> None:
        """Insert rows of id, address and data, in one transaction of their own."""
        self._run(1, rows)

    def finish(self, rows: Sequence[dict[str, str]]) -> None:
        """Write the results of some rows: id and result."""
        self._run(2, rows)

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def _run(self, number: int, rows: Sequence[dict[str, str]]) -> None:
        parameter = json_text(rows) if self._sqlite else Jsonb(rows)
        self._connection.execute(self._statements[number], (parameter,))


def json_text(value: Any) -> str:
    """Compact JSON."""
    return json.dumps(value, separators=(",", ":"))


_local = threading.local()


def insert_one(target: str, data: str) -> str:
    """Insert one row by a connection of this thread's own; answers its id."""
    if not hasattr(_local, "store"):
        _local.store = BareStore(target)
    made = new_id()
    _local.store.insert([{"id": made, "address": "", "data": data}])
    return made
