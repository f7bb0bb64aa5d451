"""Dedupe: the same business event, posted by whomever and however often within its window, is one event.

The database decides, in one statement, whose event a key stands for: of posts at the same moment one inserts the row,
and the others wait for its commit and find it. When the window is over the next event takes the key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from sqlalchemy import TextualSelect, delete, select, text
from sqlalchemy.orm import Session

from app import rows
from app.db import Transaction
from app.ids import new_id
from app.models import Event, EventDedupe
from app.models.base import Id, utc_text

MAX_KEY = 255  # characters
MAX_WINDOW = 2_592_000  # seconds: thirty days
_PRUNED = 5_000  # keys forgotten in one round
KEPT = timedelta(days=7)  # how long it can be read, after the window, how often an event came again

# A test key's events are nobody's duplicates but their own kind's: no caller can write this character.
_TEST = "\x1f"
_DECIDE = """
INSERT INTO event_dedupes (id, tenant_id, key, event_id, duplicates, created_at, expires_at, last_duplicate_at)
SELECT id, tenant_id, key, event_id, copies - 1, {now}, {until}, CASE WHEN copies > 1 THEN {now} END
FROM {rows} WHERE true ORDER BY key
ON CONFLICT (tenant_id, key) DO UPDATE SET
  event_id = CASE WHEN {over} THEN excluded.event_id ELSE event_dedupes.event_id END,
  duplicates = CASE WHEN {over} THEN excluded.duplicates ELSE event_dedupes.duplicates + excluded.duplicates + 1 END,
  created_at = CASE WHEN {over} THEN excluded.created_at ELSE event_dedupes.created_at END,
  expires_at = CASE WHEN {over} THEN excluded.expires_at ELSE event_dedupes.expires_at END,
  last_duplicate_at = CASE WHEN {over} THEN excluded.last_duplicate_at ELSE {now} END
RETURNING key, event_id
"""
# Never "there is no such event": the statement does not see one that was written by whom it waited for.
_OVER = """(event_dedupes.expires_at <= {now} OR event_dedupes.created_at <= {gone} OR EXISTS (
    SELECT 1 FROM event_logs e WHERE e.tenant_id = event_dedupes.tenant_id AND e.id = event_dedupes.event_id
    AND e.status = 'failed'))"""
_SPEC = (
    *(("id", "uuid"), ("tenant_id", "uuid"), ("key", "text"), ("event_id", "uuid")),
    *(("copies", "integer"), ("until", "text"), ("seconds", "integer")),
)


@dataclass(frozen=True, slots=True)
class Dedupe:
    """The business's own name for what happened, and for how many seconds another post of it is a duplicate."""

    key: str
    window: int


@dataclass(frozen=True, slots=True)
class Record:
    """How often an event was posted again. After `until`, or when that is None, the key is free for another."""

    key: str
    until: datetime | None = None
    duplicates: int | None = None
    last_duplicate_at: datetime | None = None


def decide(
    session: Transaction,
    now: datetime,
    tenant_id: str,
    asked: Sequence[tuple[Dedupe | None, str]],
    *,
    test: bool,
    most: int = MAX_WINDOW,
) -> list[str]:
    """The id of the event that each (dedupe, id of its own) stands for: its own, or that of an earlier one.

    Not of one that failed in planning: nobody was told. `most` is for how many seconds events are kept: no key stands
    for one that is gone.
    """
    postgres = rows.is_postgres(session)
    wanted: dict[str, dict[str, Any]] = {}
    for dedupe, event_id in asked:
        if dedupe is None:
            continue
        row = wanted.setdefault(_stored(dedupe.key, test), {"event_id": event_id, "copies": 0})
        row["copies"] += 1
        row.setdefault("seconds", min(dedupe.window, most))
    if not wanted:
        return [event_id for _, event_id in asked]
    made = [
        {"id": new_id(), "tenant_id": tenant_id, "key": key, "until": _until(now, row["seconds"]), **row}
        for key, row in wanted.items()
    ]
    values: dict[str, Any] = {"rows": rows.dumps(made)}
    values |= {"most": most} if postgres else {"now": utc_text(now), "gone": _until(now, -most)}
    found = session.execute(_statement(postgres), values)
    first = {row.key: str(row.event_id) for row in found}
    return _each(asked, first, test)


def _each(asked: Sequence[tuple[Dedupe | None, str]], first: Mapping[str, str], test: bool) -> list[str]:
    return [event_id if dedupe is None else first[_stored(dedupe.key, test)] for dedupe, event_id in asked]


def record(session: Session, event: Event) -> Record | None:
    """What is known of an event's dedupe; None: it was posted without."""
    if event.dedupe_key is None:
        return None
    mine = (EventDedupe.tenant_id == event.tenant_id, EventDedupe.key == _stored(event.dedupe_key, event.test))
    found = session.scalars(select(EventDedupe).where(*mine, EventDedupe.event_id == event.id)).one_or_none()
    if found is None:
        return Record(event.dedupe_key)
    return Record(event.dedupe_key, found.expires_at, found.duplicates, found.last_duplicate_at)


def prune(session: Session, now: datetime) -> None:
    """Forget the keys whose window is long over. Wants a `system` transaction."""
    over = select(EventDedupe.id).where(EventDedupe.expires_at < now - KEPT).limit(_PRUNED)
    session.execute(delete(EventDedupe).where(EventDedupe.id.in_(over)))


def _stored(key: str, test: bool) -> str:
    return _TEST + key if test else key


def _until(now: datetime, seconds: int) -> str:
    return utc_text(now + timedelta(seconds=seconds))


@lru_cache(maxsize=2)
def _statement(postgres: bool) -> TextualSelect:
    now = "now()" if postgres else ":now"
    return text(
        _DECIDE.format(
            now=now,
            until="now() + seconds * interval '1 second'" if postgres else "until",
            over=_OVER.format(now=now, gone="now() - :most * interval '1 second'" if postgres else ":gone"),
            rows=rows.source(_SPEC, postgres),
        )
    ).columns(event_id=Id)
