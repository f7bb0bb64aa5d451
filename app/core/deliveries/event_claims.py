"""Claiming events for planning. The laws for claims hold for events as for deliveries."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from sqlalchemy import TextClause, TextualSelect, text

from app import rows
from app.core.deliveries import claims
from app.core.outbox import Lane
from app.db import Transaction, in_order
from app.models import Event
from app.models.base import Id, Utc, utc_text

BATCH = 100
LEASE_SECONDS = 30.0  # a page takes less than a second, and each renews it
SUSPECTS_EVERY = 10  # one claim in so many begins with what went wrong, so that a busy tenant does not starve it
MOST_FAILURES = 5  # one after the other, without a page between them
RETRY_SECONDS = 10.0

_TENANTS = """
WITH RECURSIVE waiting(tenant_id) AS (
  SELECT (SELECT tenant_id FROM event_logs WHERE status = 'received' AND lane = :lane ORDER BY tenant_id LIMIT 1)
  UNION ALL
  SELECT (SELECT tenant_id FROM event_logs WHERE status = 'received' AND lane = :lane
          AND tenant_id > waiting.tenant_id ORDER BY tenant_id LIMIT 1)
  FROM waiting WHERE waiting.tenant_id IS NOT NULL
)
SELECT tenant_id FROM waiting WHERE (
  SELECT e.next_attempt_at FROM event_logs e WHERE e.status = 'received' AND e.lane = :lane
  AND e.tenant_id = waiting.tenant_id ORDER BY e.next_attempt_at LIMIT 1) <= {now} ORDER BY tenant_id
"""
# An event whose planning went wrong before may have cost a worker its life: it is planned on its own.
# As an array PostgreSQL looks up each id; with a plain IN it may join them with all that waits.
_CLAIM = """
UPDATE event_logs SET status = 'planning', attempt = attempt + 1, lease_until = {lease}
WHERE tenant_id = :tenant AND status = 'received' AND id {among} (
  SELECT id FROM event_logs WHERE tenant_id = :tenant AND status = 'received' AND lane = :lane
  AND next_attempt_at <= {now} AND failures {suspect} 0 ORDER BY next_attempt_at LIMIT {limit} {lock}){end}
RETURNING id, tenant_id, event_type, data, user_ids, occurred_at, lane, test, cursor, attempt, notes, expires_at,
  topics, topic_index, topic_after, failures, next_attempt_at, traceparent, {left} AS seconds_left
"""
_ADVANCE = """
UPDATE event_logs SET cursor = r.cursor, topic_index = r.topic_index, topic_after = r.topic_after, notes = r.notes,
  status = r.status, failures = 0, lease_until = CASE WHEN r.status = 'planning' THEN {lease} END,
  planned_at = CASE WHEN r.status = 'planned' THEN {now} END
FROM {rows}
WHERE {these} AND (event_logs.tenant_id = :tenant) IS TRUE AND event_logs.id = r.id AND event_logs.attempt = r.attempt
  AND event_logs.status IN ('planning', 'received')
RETURNING event_logs.id
"""
# What had its turn stands behind its tenant's other events.
_GIVE_BACK = """
UPDATE event_logs SET status = 'received', lease_until = NULL,
  next_attempt_at = CASE WHEN r.status = 'begun' THEN {now} ELSE event_logs.next_attempt_at END
FROM {rows}
WHERE {these} AND (event_logs.tenant_id = :tenant) IS TRUE AND event_logs.id = r.id AND event_logs.attempt = r.attempt
  AND event_logs.status = 'planning'
"""
_PUT_BACK = """
UPDATE event_logs SET status = CASE WHEN failures + 1 >= :most THEN 'failed' ELSE 'received' END,
  failures = failures + 1, error = :error, lease_until = NULL, next_attempt_at = {due}
WHERE tenant_id = :tenant AND id = :id AND attempt = :attempt AND status = 'planning' RETURNING status
"""
_SPEC = (
    ("id", "uuid"),
    ("attempt", "integer"),
    ("cursor", "integer"),
    ("topic_index", "integer"),
    ("topic_after", "text"),
    ("status", "text"),
    ("notes", "jsonb"),
)


@dataclass(frozen=True, slots=True)
class ClaimedEvent:
    """An event that this worker may plan, until its lease ends. `attempt` fences what it writes.

    `cursor`, `topic_index` and `topic_after` are how far planning has come (see `Event`). `over_at`: when it expires,
    by the monotonic clock.
    """

    id: str
    tenant_id: str
    event_type: str
    data: Mapping[str, Any]
    user_ids: Sequence[str]
    occurred_at: datetime
    lane: str
    test: bool
    cursor: int
    attempt: int
    notes: Sequence[Mapping[str, Any]]
    expires_at: datetime | None
    topics: Sequence[str]
    topic_index: int
    topic_after: str
    failures: int
    next_attempt_at: datetime
    traceparent: str | None
    over_at: float

    @property
    def is_late(self) -> bool:
        """Whether what it makes must not be sent any more."""
        return time.monotonic() >= self.over_at

    @property
    def finished(self) -> bool:
        """Whether everybody named and on the topics' lists has had their turn."""
        return self.cursor >= len(self.user_ids) and self.topic_index >= len(self.topics)


@lru_cache(maxsize=32)
def _statement(template: str, postgres: bool, suspect: bool = False) -> TextClause:
    return text(
        template.format(
            now="now()" if postgres else ":now",
            lease="now() + :lease_seconds * interval '1 second'" if postgres else ":lease_until",
            due="now() + :delay * interval '1 second'" if postgres else ":due_at",
            lock="FOR UPDATE SKIP LOCKED" if postgres else "",
            left=claims.left(postgres),
            among="= ANY (ARRAY" if postgres else "IN",
            end=")" if postgres else "",
            suspect=">" if suspect else "=",
            limit="1" if suspect else str(BATCH),
            rows=rows.source(_SPEC, postgres),
            these=rows.these("event_logs", postgres, joined=True),
        )
    )


@lru_cache(maxsize=4)
def _claiming(postgres: bool, suspect: bool) -> TextualSelect:
    """Made once: each new one would be compiled again."""
    return _statement(_CLAIM, postgres, suspect).columns(
        id=Id,
        tenant_id=Id,
        data=Event.data.type,
        user_ids=Event.user_ids.type,
        occurred_at=Utc,
        notes=Event.notes.type,
        expires_at=Utc,
        next_attempt_at=Utc,
        topics=Event.topics.type,
    )


def _times(now: datetime, postgres: bool, delay: float = 0.0) -> dict[str, Any]:
    if postgres:
        return {"lease_seconds": LEASE_SECONDS, "delay": delay}
    lease_until = utc_text(now + timedelta(seconds=LEASE_SECONDS))
    return {"now": utc_text(now), "lease_until": lease_until, "due_at": utc_text(now + timedelta(seconds=delay))}


def tenants(session: Transaction, lane: Lane, now: datetime) -> list[str]:
    """The tenants that have events to plan in a lane, in order."""
    postgres = rows.is_postgres(session)
    values = _times(now, postgres) | {"lane": lane.value}
    return [str(found) for found in session.execute(_statement(_TENANTS, postgres), values).scalars()]


def claim(
    session: Transaction, lane: Lane, tenant_id: str, now: datetime, *, suspects_first: bool = False
) -> list[ClaimedEvent]:
    """Claim up to BATCH events that never went wrong or, if there are none, one that did; in the order of turns.

    With `suspects_first` one that did, if there is any.
    """
    postgres = rows.is_postgres(session)
    for suspect in (True, False) if suspects_first else (False, True):
        values = _times(now, postgres) | {"tenant": tenant_id, "lane": lane.value}
        with in_order(session):
            found = [_claimed(dict(row)) for row in session.execute(_claiming(postgres, suspect), values).mappings()]
        if found:
            return sorted(found, key=lambda event: (event.next_attempt_at, event.id))
    return []


def _claimed(row: dict[str, Any]) -> ClaimedEvent:
    over_at = claims.moment(row.pop("seconds_left"))
    return ClaimedEvent(**row, over_at=over_at)


def advance(session: Transaction, events: Sequence[ClaimedEvent], now: datetime) -> set[str]:
    """Write how far planning has come; what is finished is planned. Returns the ids that were still ours."""
    postgres = rows.is_postgres(session)
    written = [
        {
            "id": event.id,
            "attempt": event.attempt,
            "cursor": event.cursor,
            "topic_index": event.topic_index,
            "topic_after": event.topic_after,
            "status": "planned" if event.finished else "planning",
            "notes": event.notes,
        }
        for event in events
    ]
    values = _times(now, postgres) | _named(events, written, postgres)
    return {str(found) for found in session.execute(_statement(_ADVANCE, postgres), values).scalars()}


def give_back(
    session: Transaction, fresh: Sequence[ClaimedEvent], begun: Sequence[ClaimedEvent], now: datetime
) -> None:
    """Let others go on where this worker stops, which is no failure. What was `begun` stands behind the others."""
    events, postgres = [*fresh, *begun], rows.is_postgres(session)
    written = [{"id": event.id, "attempt": event.attempt, "status": "fresh"} for event in fresh]
    written += [{"id": event.id, "attempt": event.attempt, "status": "begun"} for event in begun]
    session.execute(_statement(_GIVE_BACK, postgres), _times(now, postgres) | _named(events, written, postgres))


def _named(events: Sequence[ClaimedEvent], written: Sequence[Mapping[str, Any]], postgres: bool) -> dict[str, Any]:
    ids = rows.id_list((event.id for event in events), postgres)
    return {"tenant": events[0].tenant_id, "rows": rows.dumps(written), "ids": ids}


def put_back(session: Transaction, event: ClaimedEvent, now: datetime, error: str) -> bool:
    """Let planning that went wrong be tried again later. True: it was once too often, and the event has failed."""
    postgres = rows.is_postgres(session)
    statement = _statement(_PUT_BACK, postgres)
    values = _times(now, postgres, RETRY_SECONDS * (event.failures + 1)) | {
        "tenant": event.tenant_id,
        "id": event.id,
        "attempt": event.attempt,
        "error": error,
        "most": MOST_FAILURES,
    }
    return session.execute(statement, values).scalar() == "failed"
