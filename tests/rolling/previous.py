"""The previous version's own statements, word for word, to be said again beside the present version's.

`previous.json` holds what `recorder` wrote down:

    ids         every id that occurred, in the order of first mention; `${id7}` in a parameter is number 7
    statements  {name: SQL}; a name is the module and function that said it
    chapters    {chapter: transactions}; a transaction is a list of [name, parameters, rows that it returned or changed]

`${at1.5}` and {"$at": 1.5} are a time: so many seconds after the recording began; `${receiver}` is the URL of the
local HTTP receiver.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from psycopg.types.json import Json, Jsonb

_HOLE = re.compile(r"\$\{(id|at|receiver)([0-9.]*)\}")


class Previous:
    """What the previous version says, as if it were saying it now. `receiver` is the URL of the HTTP receiver."""

    def __init__(self, receiver: str) -> None:
        kept = json.loads(Path(__file__).with_name("previous.json").read_text())
        self.ids: list[str] = kept["ids"]
        self.statements: dict[str, str] = kept["statements"]
        self.chapters: dict[str, list[list[Any]]] = kept["chapters"]
        self._receiver = receiver
        written = re.findall(r"created_at\W+at\W*([0-9.]+)", json.dumps(self.chapters))
        self._begun = datetime.now(UTC) - timedelta(seconds=max(map(float, written)))

    @property
    def tenant_id(self) -> str:
        """Whose day it was."""
        return self.ids[0]

    def replay(self, connection: psycopg.Connection[Any], chapter: str) -> list[str]:
        """Say a chapter again, each transaction as one. Returns where a statement now finds another number of rows."""
        differences = []
        for transaction in self.chapters[chapter]:
            with connection.transaction():
                for name, parameters, rows in transaction:
                    found = self._say(connection, name, parameters)
                    if found != rows:
                        differences.append(f"{name}: {found} rows, not {rows}")
        return differences

    def ask(self, connection: psycopg.Connection[Any], name: str, **parameters: Any) -> list[dict[str, Any]]:
        """Say one statement with parameters of one's own; the rows it returns."""
        found = connection.cursor(row_factory=psycopg.rows.dict_row).execute(self._sql(name), parameters)
        return found.fetchall() if found.description else []

    def _say(self, connection: psycopg.Connection[Any], name: str, parameters: Any) -> int:
        cursor = connection.cursor()
        if isinstance(parameters, list):
            cursor.executemany(self._sql(name), [self._now(one) for one in parameters])
        else:
            cursor.execute(self._sql(name), self._now(parameters) or None)
        return cursor.rowcount

    def _sql(self, name: str) -> Any:
        return self.statements[name]

    def _now(self, value: Any) -> Any:
        """A recorded parameter as one to give to psycopg."""
        if isinstance(value, str):
            return _HOLE.sub(self._fill, value)
        if isinstance(value, Sequence):
            return [self._now(one) for one in value]
        if not isinstance(value, Mapping):
            return value
        if "$at" in value:
            return self._time(value["$at"])
        for mark, wrapper in (("$jsonb", Jsonb), ("$json", Json)):
            if mark in value:
                return wrapper(json.loads(self._now(value[mark])))
        return {key: self._now(one) for key, one in value.items()}

    def _fill(self, hole: re.Match[str]) -> str:
        kind, number = hole.groups()
        if kind == "id":
            return self.ids[int(number)]
        return self._receiver if kind == "receiver" else f"{self._time(float(number)):%Y-%m-%dT%H:%M:%S.%fZ}"

    def _time(self, seconds: float) -> datetime:
        return self._begun + timedelta(seconds=seconds)
