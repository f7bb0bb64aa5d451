"""What the database says: every change of a delivery's status as it was committed, and all rows at the end.

The changes are noted by a trigger that chaos puts into its own database; the product does not know of it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.rows import namedtuple_row

_INSTALL = """
CREATE TABLE chaos_history (
  seq bigserial PRIMARY KEY, id uuid, was text, status text, attempt integer, at double precision,
  lease_until double precision);
CREATE FUNCTION chaos_note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO chaos_history (id, was, status, attempt, at, lease_until)
    VALUES (NEW.id, NULL, NEW.status, NEW.attempt, extract(epoch FROM clock_timestamp()),
      extract(epoch FROM NEW.lease_until));
  ELSIF NEW.status IS DISTINCT FROM OLD.status OR NEW.attempt <> OLD.attempt THEN
    INSERT INTO chaos_history (id, was, status, attempt, at, lease_until)
    VALUES (NEW.id, OLD.status, NEW.status, NEW.attempt, extract(epoch FROM clock_timestamp()),
      extract(epoch FROM NEW.lease_until));
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER chaos_note AFTER INSERT OR UPDATE ON notification_logs FOR EACH ROW EXECUTE FUNCTION chaos_note();
"""
_UNDONE = """
SELECT (SELECT count(*) FROM event_logs WHERE status IN ('received', 'planning'))
     + (SELECT count(*) FROM notification_logs WHERE status IN ('pending', 'sending'))
"""


@dataclass(frozen=True)
class Change:
    """A committed change of a delivery: from `was` (None: it was written) to `status`, in its try number `attempt`."""

    was: str | None
    status: str
    attempt: int
    at: float
    lease_until: float | None


@dataclass
class Found:
    """All that the database holds at the end; rows have the columns as attributes."""

    events: list[Any] = field(default_factory=list)
    deliveries: dict[str, Any] = field(default_factory=dict)
    attempts: dict[str, dict[int, Any]] = field(default_factory=lambda: defaultdict(dict))
    doubled_attempts: list[tuple[str, int]] = field(default_factory=list)
    items: set[str] = field(default_factory=set)
    changes: dict[str, list[Change]] = field(default_factory=lambda: defaultdict(list))


def install(admin_url: str) -> None:
    """Have changes noted from now on."""
    with psycopg.connect(admin_url, autocommit=True) as connection:
        connection.execute(_INSTALL)


def undone(admin_url: str) -> int:
    """How many events and deliveries are not final yet."""
    with psycopg.connect(admin_url, autocommit=True, connect_timeout=5) as connection:
        row = connection.execute(_UNDONE).fetchone()
        return int(row[0]) if row else 0


def read(admin_url: str) -> Found:
    """Everything."""
    found = Found()
    with psycopg.connect(admin_url, row_factory=namedtuple_row) as connection:
        found.events = _rows(connection, "id::text, status, error, attempt, (data ->> 'n')::int AS n", "event_logs")
        columns = "id::text, event_id::text, configuration_id::text, user_id, channel, address, status, reason, error,"
        columns += " turn, attempt, tries, losses, extract(epoch FROM created_at)::float AS created_at"
        found.deliveries = {row.id: row for row in _rows(connection, columns, "notification_logs")}
        columns = "delivery_id::text, number, outcome, code, extract(epoch FROM finished_at)::float AS finished_at"
        for row in _rows(connection, columns, "delivery_attempts"):
            if row.number in found.attempts[row.delivery_id]:
                found.doubled_attempts.append((row.delivery_id, row.number))
            found.attempts[row.delivery_id][row.number] = row
        found.items = {row.id for row in _rows(connection, "id::text", "notifications")}
        for row in _rows(connection, "id::text, was, status, attempt, at, lease_until", "chaos_history ORDER BY seq"):
            found.changes[row.id].append(Change(row.was, row.status, row.attempt, row.at, row.lease_until))
    return found


def _rows(connection: Any, columns: str, table: str) -> list[Any]:
    return list(connection.execute(f"SELECT {columns} FROM {table}"))


def ids_of(admin_url: str, address: str) -> list[str]:
    """The deliveries to addresses that begin so."""
    with psycopg.connect(admin_url, autocommit=True) as connection:
        found = connection.execute("SELECT id::text FROM notification_logs WHERE address LIKE %s", (f"{address}%",))
        return [row[0] for row in found]
