"""The big tables by month, on PostgreSQL: made ahead, and dropped whole when their time is over.

A month is dropped only when its last moment is past the retention of its table and nothing in it is unfinished. Each
step is a short transaction of its own that waits for locks for `LOCK_SECONDS` at most, since whoever comes after it in
the queue waits as well; what is in use just now is left for the next run.

Bounds are ids: the least UUIDv7 of a moment. They are read from the catalogue and not from names.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from app.db import Database, apply_scope
from app.ids import first_id_of, time_of
from app.tenancy import Purpose, system

# In this order they are dropped: what refers to others first.
PARTITIONED = ("webhook_delivery_logs", "delivery_attempts", "notification_logs", "event_logs")
MONTHS_AHEAD = 2
LOCK_SECONDS = 2  # more than the second after which PostgreSQL asks an autovacuum to step aside
TRIES = 5
PAUSE_SECONDS = 1.0
_ONLY_ONE = 0x7469_6D70  # an advisory lock's name: any number that nothing else uses
IN_USE = frozenset({"55P03", "40P01"})  # lock not available; deadlock

log = structlog.get_logger()

_BOUNDS = text("""
SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) AS bounds
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = to_regclass(:table)
""")
# Deliveries have the time of their event in their id: what is unfinished of a month's events stands in the same range.
_OPEN_DELIVERIES = "SELECT 1 FROM notification_logs WHERE id >= :start AND id < :end AND status = '{}'"
_OPEN_EVENTS = "SELECT 1 FROM event_logs WHERE id >= :start AND id < :end AND status = '{}'"
_OPEN_ATTEMPTS = """
SELECT 1 FROM notification_logs d WHERE d.status = 'sending' AND EXISTS (
  SELECT 1 FROM delivery_attempts a WHERE a.tenant_id = d.tenant_id AND a.delivery_id = d.id AND a.number = d.attempt
  AND a.id >= :start AND a.id < :end)
"""
_DELIVERIES_OPEN = tuple(_OPEN_DELIVERIES.format(status) for status in ("pending", "sending"))
_UNFINISHED: Mapping[str, Sequence[str]] = {
    "event_logs": (*(_OPEN_EVENTS.format(status) for status in ("received", "planning")), *_DELIVERIES_OPEN),
    "notification_logs": _DELIVERIES_OPEN,
    "delivery_attempts": (_OPEN_ATTEMPTS,),
    "webhook_delivery_logs": (_OPEN_ATTEMPTS,),
}


class AnotherRunError(Exception):
    """Somebody else changes the schema, or brings the partitions in order; the text says so."""


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition of `table`. `start` and `end` are ids; `end` is not in it."""

    table: str
    name: str
    start: str
    end: str


@dataclass(frozen=True, slots=True)
class Step:
    """Something to do: make, fill (from the default partition) or drop. `kept` is why it is not done."""

    what: str
    partition: Partition
    kept: str = ""
    left: bool = False  # it should have been done: try again

    def __str__(self) -> str:
        first, last = time_of(self.partition.start), time_of(self.partition.end)
        why = f": {self.kept}" if self.kept else ""
        return f"{self.what} {self.partition.name} ({first:%Y-%m-%d} to {last:%Y-%m-%d}){why}"


def make_ahead(connection: Connection, now: datetime) -> None:
    """The partitions of this month and the next two, as far as they are not there, in the caller's transaction."""
    for table in PARTITIONED:
        for step in _missing(table, _existing(connection, table), now):
            if _first(connection, table, step.partition.start, step.partition.end) is None:
                _make(connection, step.partition)


def maintain(
    database: Database, keep_days: Mapping[str, int], now: datetime, *, dry_run: bool = False
) -> Iterator[Step]:
    """Bring the partitions in order; yields each step when it is done (with `dry_run`, when it would be).

    `keep_days` is {table: days}; 0 and absent: for ever. A step that could not be done says why in `kept`.
    Connects as the tables' owner. Raises AnotherRunError while another run is at it; a dry run disturbs none.
    """
    with nullcontext() if dry_run else only_run(database):
        for table in PARTITIONED:
            for step in _planned(database, table, keep_days.get(table, 0), now):
                yield step if dry_run or step.kept else _done(database, step)


@contextmanager
def only_run(database: Database, *, wait: bool = False) -> Iterator[None]:
    """Nobody else changes the schema within the block. Raises AnotherRunError when somebody does, or waits for them."""
    with database.engine.connect() as guard:
        if not guard.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": _ONLY_ONE}).scalar():
            if not wait:
                raise AnotherRunError("Another `tidings migrate` is under way: nothing was done.")
            log.warning("waits_for_another_migrate")
            guard.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _ONLY_ONE})
        guard.commit()
        try:
            yield
        finally:  # said, because the server takes its time to see that a connection has gone
            with suppress(DBAPIError):  # gone already, and the lock with it: what the block met is what counts
                guard.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _ONLY_ONE})
                guard.commit()


def _planned(database: Database, table: str, days: int, now: datetime) -> list[Step]:
    with database.engine.begin() as connection:
        apply_scope(system(Purpose.MIGRATE), connection)
        there = _existing(connection, table)
        fill = list(_in_default(connection, table, there, now))
        there += [step.partition for step in fill]
        made = _missing(table, there, now)
        over = first_id_of(now - timedelta(days=days)) if days else ""
        old = [one for one in there if one.end <= over]
        drop = [Step("drop", one, _held(connection, one)) for one in sorted(old, key=lambda one: one.start)]
    return [*fill, *made, *drop]


def _existing(connection: Connection, table: str) -> list[Partition]:
    found = []
    for name, bounds in connection.execute(_BOUNDS, {"table": table}):
        if match := re.fullmatch(r"FOR VALUES FROM \('([0-9a-f-]{36})'\) TO \('([0-9a-f-]{36})'\)", bounds):
            found.append(Partition(table, name, match[1], match[2]))
    return sorted(found, key=lambda one: one.start)


def _missing(table: str, there: Sequence[Partition], now: datetime) -> list[Step]:
    made = []
    for ahead in range(MONTHS_AHEAD + 1):
        start, end = first_id_of(_month(now, ahead)), first_id_of(_month(now, ahead + 1))
        if not any(one.start < end and start < one.end for one in there):
            made.append(Step("make", Partition(table, f"{table}_{_month(now, ahead):%Y%m}", start, end)))
    return made


def _in_default(connection: Connection, table: str, there: Sequence[Partition], now: datetime) -> Iterator[Step]:
    """Partitions for rows that came when nobody had made one: for each gap between others, from its first row's month
    to its last row's. An id of a far future (somebody's clock was wrong) stays where it is.
    """
    end_of_all = first_id_of(_month(now, MONTHS_AHEAD + 1))
    edges = [first_id_of(datetime(1970, 1, 1, tzinfo=UTC)), *(edge for one in there for edge in (one.start, one.end))]
    for lower, upper in zip(edges[::2], [*edges[1::2], end_of_all], strict=True):
        upper = min(upper, end_of_all)
        first = _first(connection, table, lower, upper)
        if first is None:
            continue
        last = _first(connection, table, lower, upper, newest=True) or first
        filling = lower <= first_id_of(now) < upper  # then rows of this month are still to come
        start, end = _month(time_of(first)), _month(max(time_of(last), now) if filling else time_of(last), 1)
        name = f"{table}_{start:%Y%m}"
        if end != _month(start, 1):
            name += f"_{_month(end, -1):%Y%m}"
        yield Step("fill", Partition(table, name, max(lower, first_id_of(start)), min(upper, first_id_of(end))))


def _first(connection: Connection, table: str, start: str, end: str, *, newest: bool = False) -> str | None:
    order = "DESC" if newest else "ASC"
    query = text(f"SELECT id FROM {table} WHERE id >= :start AND id < :end ORDER BY id {order} LIMIT 1")
    found = connection.execute(query, {"start": start, "end": end}).scalar()
    return None if found is None else str(found)


def _held(connection: Connection, partition: Partition) -> str:
    """Why a partition may not be dropped, or ""."""
    connection.execute(text("SET LOCAL enable_seqscan = off"))  # the partial indexes know at once
    values = {"start": partition.start, "end": partition.end}
    for query in _UNFINISHED[partition.table]:
        if connection.execute(text(f"{query} LIMIT 1"), values).first():
            return "kept, something in it is unfinished"
    return ""


def _taken(connection: Connection, partition: Partition) -> str:
    """Why a partition may not be made, or ""."""
    if connection.execute(text("SELECT to_regclass(:name)"), {"name": partition.name}).scalar() is None:
        return ""
    return "not done, another table has this name"


def _done(database: Database, step: Step) -> Step:
    """Do a step; what is in use is tried a few times. Returns it, with the reason if it was not done after all."""
    work = {"make": _make, "fill": _fill, "drop": _drop}[step.what]
    for left in reversed(range(TRIES)):
        try:
            with database.engine.begin() as connection:
                apply_scope(system(Purpose.MIGRATE), connection)
                connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"))
                connection.execute(text(f"LOCK TABLE ONLY {step.partition.table} IN ACCESS EXCLUSIVE MODE"))
                kept = (_held if step.what == "drop" else _taken)(connection, step.partition)
                if not kept:
                    work(connection, step.partition)
            return Step(step.what, step.partition, kept, left=bool(kept) and step.what != "drop")
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", "") not in IN_USE:
                raise
        if left:
            time.sleep(PAUSE_SECONDS)
    return Step(step.what, step.partition, "in use just now, left for the next run", left=True)


def _make(connection: Connection, partition: Partition) -> None:
    connection.execute(text(f"CREATE TABLE {partition.name} PARTITION OF {partition.table} {_values(partition)}"))
    _secure(connection, partition.name)


def _fill(connection: Connection, partition: Partition) -> None:
    """The default partition becomes the one of these months, and a new default stands behind it: no row is copied,
    but for those that belong elsewhere.
    """
    table, name = partition.table, partition.name
    columns = ", ".join(
        connection.execute(
            text(
                "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(:table) AND attnum > 0"
                " AND NOT attisdropped ORDER BY attnum"
            ),
            {"table": table},
        ).scalars()
    )
    for statement in (
        f"ALTER TABLE {table} DETACH PARTITION {table}_default",
        f"ALTER TABLE {table}_default RENAME TO {name}",
        f"ALTER TABLE {name} NO FORCE ROW LEVEL SECURITY",
        f"CREATE TABLE {table}_default PARTITION OF {table} DEFAULT",
        f"WITH moved AS (DELETE FROM {name} WHERE id < '{partition.start}' OR id >= '{partition.end}'"
        f" RETURNING {columns}) INSERT INTO {table} ({columns}) SELECT {columns} FROM moved",
        f"ALTER TABLE {table} ATTACH PARTITION {name} {_values(partition)}",
    ):
        connection.execute(text(statement))
    _secure(connection, name)
    _secure(connection, f"{table}_default")


def _drop(connection: Connection, partition: Partition) -> None:
    # Not DETACH … CONCURRENTLY first: PostgreSQL refuses that beside a default partition. Dropping is as instant.
    connection.execute(text(f"DROP TABLE {partition.name}"))


def _values(partition: Partition) -> str:
    return f"FOR VALUES FROM ('{partition.start}') TO ('{partition.end}')"


def _secure(connection: Connection, name: str) -> None:
    # A partition does not inherit its parent's policies: with none of its own it shows nothing directly.
    connection.execute(text(f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY"))
    connection.execute(text(f"ALTER TABLE {name} FORCE ROW LEVEL SECURITY"))


def _month(at: datetime, ahead: int = 0) -> datetime:
    """The first moment of the month of `at`, or of one so many months later."""
    months = at.year * 12 + at.month - 1 + ahead
    return datetime(months // 12, months % 12 + 1, 1, tzinfo=UTC)
