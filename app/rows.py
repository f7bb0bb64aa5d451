"""Statements over arrays of rows: one parameter of JSON, ten times cheaper than row by row.

COPY is refused on tables with row-level security; `jsonb_to_recordset` and SQLite's `json_each` are not.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from sqlalchemy import JSON, Boolean, Double, Integer, Table, TextClause, TextualSelect, text

from app.db import Transaction
from app.models.base import Id, TenantOwned, Utc, utc_text
from app.work import Work

_POSTGRES_TYPES: tuple[tuple[type, str], ...] = (
    (Id, "uuid"),
    (Utc, "timestamptz"),
    (JSON, "jsonb"),
    (Boolean, "boolean"),
    (Integer, "integer"),
    (Double, "double precision"),
)


_FEW = 4  # rows: not worth a look at what they have in common
_CHUNK = 8_000_000  # characters of JSON in one statement
# Due times are compared by the database's clock. New work is due at once, however far ahead the clock of its writer is.
_NOT_LATER = "CASE WHEN next_attempt_at > now() THEN now() ELSE next_attempt_at END"


def dumps(value: Any) -> str:
    """JSON text; times become RFC 3339 in UTC."""
    return _encoder.encode(value)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return utc_text(value)
    raise TypeError(f"{type(value).__name__} is no JSON")


@dataclass(frozen=True, slots=True)
class Condition:
    """SQL that tells of a row `r` whether to insert it, and its parameters."""

    sql: str = "true"
    values: Mapping[str, Any] = field(default_factory=dict)


ALWAYS = Condition()
_encoder = json.JSONEncoder(default=_plain, separators=(",", ":"), ensure_ascii=False)


def storable(value: str | None, limit: int = 16_384) -> str | None:
    """A stranger's text as both databases can hold it: no NUL, no lone surrogate, at most `limit` characters."""
    if value is None:
        return None
    if value.isascii() and "\x00" not in value:
        return value[:limit]
    return value[:limit].replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def is_postgres(session: Transaction) -> bool:
    """Whether this session speaks to PostgreSQL."""
    return session.postgres if isinstance(session, Work) else session.get_bind().dialect.name == "postgresql"


def insert(
    session: Transaction,
    model: type[TenantOwned],
    rows: Sequence[Mapping[str, Any]],
    *,
    also: Mapping[str, str] = MappingProxyType({}),
    **values: Any,
) -> list[str]:
    """Insert rows that all have the same keys. Rows that are there already stay as they are.

    `also`: columns made from the others, {name: SQL}, with `values` as its parameters.
    Returns the ids of those that were inserted.
    """
    if not rows:
        return []
    table = model.__table__
    postgres, few = is_postgres(session), len(rows) < _FEW
    statement = _insert_statement(table, tuple(rows[0]), postgres, few, also=tuple(also.items()))
    inserted: list[str] = []
    for given in _given(rows, postgres):
        inserted += [str(found) for found in session.execute(statement, {**given, **values}).scalars()]
    return inserted


def put(
    session: Transaction, model: type[TenantOwned], rows: Sequence[Mapping[str, Any]], condition: Condition = ALWAYS
) -> None:
    """As `insert`, for who need not know which were there already: no round trip of its own where that can be saved.

    `condition`: which of them to insert.
    """
    if not rows:
        return
    postgres, few = is_postgres(session), len(rows) < _FEW
    statement = _insert_statement(
        model.__table__, tuple(rows[0]), postgres, few, answering=False, condition=condition.sql
    )
    for given in _given(rows, postgres):
        defer(session, statement, {**given, **condition.values})


def defer(session: Transaction, statement: TextClause, values: Mapping[str, Any]) -> None:
    """Run a statement whose answer nobody needs; without the ORM in one round trip with the next one or the commit."""
    if isinstance(session, Work):
        session.defer(statement, values)
    else:
        session.execute(statement, values)


def _given(rows: Sequence[Mapping[str, Any]], postgres: bool) -> Iterator[dict[str, str]]:
    if not postgres or len(rows) < _FEW:
        yield from ({"rows": chunk} for chunk in _chunks(rows))
        return
    same, own = shared(rows)
    yield from ({"rows": chunk, "same": same} for chunk in _chunks(own))


def shared(rows: Sequence[Mapping[str, Any]]) -> tuple[str, Sequence[Mapping[str, Any]]]:
    """What all rows have in common, as a JSON object, and of each row the rest: see `shared_source`.

    In a fan-out that is most of a row, which is then written and read once.
    """
    first = rows[0]
    same = {}
    for name, value in first.items():
        for row in rows:
            if row[name] is not value and row[name] != value:
                break
        else:
            same[name] = value
    own = [name for name in first if name not in same]
    return dumps(same), [{name: row[name] for name in own} for row in rows]


def _chunks(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The rows as JSON arrays of bounded size: PostgreSQL takes no parameter above 1 GB. What is absent is NULL."""
    whole = dumps(rows)  # at once: one by one costs twice as much
    if len(whole) <= _CHUNK:
        yield whole
        return
    size = 0
    pieces: list[str] = []
    for row in rows:
        piece = dumps(row)
        if pieces and size + len(piece) > _CHUNK:
            yield f"[{','.join(pieces)}]"
            size, pieces = 0, []
        size += len(piece)
        pieces.append(piece)
    yield f"[{','.join(pieces)}]"


@lru_cache(maxsize=256)
def _insert_statement(
    table: Table,
    names: tuple[str, ...],
    postgres: bool,
    few: bool,
    *,
    answering: bool = True,
    condition: str = "true",
    also: tuple[tuple[str, str], ...] = (),
) -> TextClause:
    columns = ", ".join((*names, *(name for name, _ in also)))
    plain = (_NOT_LATER if postgres and name == "next_attempt_at" else name for name in names)
    chosen = ", ".join((*plain, *(made for _, made in also)))
    spec = tuple((name, _type_name(table.c[name].type)) for name in names)
    origin = source(spec, postgres) if few else shared_source(spec, postgres)
    return text(
        f"INSERT INTO {table.name} ({columns}) SELECT {chosen} FROM {origin} WHERE {condition}"
        f" ON CONFLICT DO NOTHING{' RETURNING id' if answering else ''}"
    )


def _type_name(column_type: Any) -> str:
    return next((name for kind, name in _POSTGRES_TYPES if isinstance(column_type, kind)), "text")


def these(table: str, postgres: bool, *, joined: bool = False) -> str:
    """The rows of `table` whose ids the parameter `:ids` has (see `id_list`), as a condition.

    `joined`: they are joined with `source` by their ids anyway. Then SQLite, which has no hash join, had better begin
    with the source, and look each row up.

    Ids named outright are found by their index. Beside it write other predicates as `(…) IS TRUE`: a table that was
    not analysed yet makes both planners believe that a tenant has a handful of rows, and walk all of them.
    """
    if postgres:
        return f"{table}.id = ANY(CAST(:ids AS uuid[]))"
    return "true" if joined else f"{table}.id IN (SELECT value FROM json_each(:ids))"


def id_list(ids: Iterable[str], postgres: bool) -> Any:
    """Ids as the parameter of `these`."""
    return list(ids) if postgres else dumps(list(ids))


def source(spec: Iterable[tuple[str, str]], postgres: bool) -> str:
    """The rows of the parameter `:rows` as a table `r`. `spec` is (column, PostgreSQL type) for each."""
    if postgres:
        columns = ", ".join(f"{name} {kind}" for name, kind in spec)
        return f"jsonb_to_recordset(CAST(:rows AS jsonb)) AS r({columns})"
    columns = ", ".join(f"json_extract(value, '$.{name}') AS {name}" for name, _ in spec)
    return f"(SELECT {columns} FROM json_each(:rows)) AS r"


def shared_source(spec: Iterable[tuple[str, str]], postgres: bool) -> str:
    """As `source`, of rows in two parameters: on PostgreSQL `:same` has what all have in common (see `shared`)."""
    if not postgres:
        return source(spec, postgres)
    spec = list(spec)
    columns = ", ".join(f"{name} {kind}" for name, kind in spec)
    whole = ", ".join(f"coalesce(own.{name}, same.{name}) AS {name}" for name, _ in spec)
    return (
        f"(SELECT {whole} FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS own({columns})"
        f" CROSS JOIN jsonb_to_record(CAST(:same AS jsonb)) AS same({columns})) AS r"
    )


def of_people(
    session: Transaction, model: type[TenantOwned], names: Sequence[str], tenant_id: str, user_ids: Iterable[str]
) -> Sequence[Any]:
    """Columns of a tenant's rows about these people, in one statement that finds each person by the index.

    `IN` would do, but for tables that were not analysed yet: there PostgreSQL reads all of the tenant's people.
    """
    postgres = is_postgres(session)
    statement = _people_statement(model.__table__, tuple(names), postgres)
    people = list(user_ids)
    return session.execute(statement, {"tenant": tenant_id, "people": people if postgres else dumps(people)}).all()


@lru_cache(maxsize=16)
def _people_statement(table: Table, names: tuple[str, ...], postgres: bool) -> TextClause | TextualSelect:
    columns = ", ".join(names)
    if postgres:  # OFFSET 0 keeps the planner from turning the look-ups into a join
        found = (
            "SELECT found.* FROM unnest(CAST(:people AS text[])) AS asked(user_id)"
            f" CROSS JOIN LATERAL (SELECT {columns}"
            f" FROM {table.name} WHERE tenant_id = :tenant AND user_id = asked.user_id OFFSET 0) AS found"
        )
    else:
        found = (
            f"SELECT {columns} FROM {table.name} WHERE tenant_id = :tenant"
            " AND user_id IN (SELECT value FROM json_each(:people))"
        )
    return text(found).columns(*(table.c[name] for name in names))
