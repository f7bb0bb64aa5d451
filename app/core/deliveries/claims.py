"""Claiming: one conditional UPDATE … RETURNING, in two literal spellings with the same tests.

PostgreSQL compares due times and leases by its own clock and lets several workers pass one another
(SKIP LOCKED); its `now()` is when the transaction began, and can use an index. SQLite
has one writer, and the time is the caller's clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from sqlalchemy import TextClause, text
from sqlalchemy.orm import Session

from app import rows
from app.core.outbox import Lane
from app.ids import new_id
from app.models import Attempt
from app.models.base import Id, Utc, utc_text

FIRST, RETRY, SUSPECT = 0, 1, 2  # Delivery.turn, in the order of claiming
BATCH = 100

_COLUMNS = (
    "id, tenant_id, event_id, event_type, rule_id, configuration_id, user_id, channel, template, address,"
    " attempt, tries, turn, losses, trigger, lane, created_at"
)
_TAKE = (
    "UPDATE notification_logs SET status = 'sending', attempt = attempt + 1, tries = tries + 1,"
    " lease_until = {lease}, updated_at = {now} WHERE {these} AND (tenant_id = :tenant AND status = 'pending') IS TRUE"
    f" RETURNING {_COLUMNS}"
)
# Tenants take turns: each step of the recursion, and each look at what is due first, is one probe of the index,
# however long a tenant's backlog is. (EXISTS would become a join that reads all of it.)
_SLOTS = """
WITH RECURSIVE waiting(tenant_id) AS (
  SELECT (SELECT tenant_id FROM notification_logs WHERE status = 'pending' AND lane = :lane ORDER BY tenant_id LIMIT 1)
  UNION ALL
  SELECT (SELECT tenant_id FROM notification_logs WHERE status = 'pending' AND lane = :lane
          AND tenant_id > waiting.tenant_id ORDER BY tenant_id LIMIT 1)
  FROM waiting WHERE waiting.tenant_id IS NOT NULL
), slots AS (
  SELECT waiting.tenant_id, channels.channel, turns.turn FROM waiting
  CROSS JOIN (SELECT 'email' AS channel UNION ALL SELECT 'in_app'
              UNION ALL SELECT 'sms' UNION ALL SELECT 'webhook') channels
  CROSS JOIN (SELECT 0 AS turn UNION ALL SELECT 1 UNION ALL SELECT 2) turns
  WHERE waiting.tenant_id IS NOT NULL
)
SELECT DISTINCT tenant_id, channel FROM slots WHERE (
  SELECT d.next_attempt_at FROM notification_logs d WHERE d.status = 'pending' AND d.lane = :lane
  AND d.tenant_id = slots.tenant_id AND d.channel = slots.channel AND d.turn = slots.turn
  ORDER BY d.next_attempt_at LIMIT 1) <= {now}
"""
_DUE = """
  SELECT id FROM notification_logs WHERE status = 'pending' AND lane = :lane AND tenant_id = :tenant
  AND channel = :channel AND turn = {turn} AND next_attempt_at <= {now}
  ORDER BY next_attempt_at LIMIT {limit} {lock}
"""


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery that this worker may send, until its lease ends. `attempt` fences the result."""

    id: str
    tenant_id: str
    event_id: str | None
    event_type: str | None
    rule_id: str | None
    configuration_id: str | None
    user_id: str | None
    channel: str
    template: str | None
    address: str
    attempt: int
    tries: int
    turn: int
    losses: int
    trigger: str
    lane: str
    created_at: datetime
    attempt_id: str = ""
    started_at: datetime | None = None


@lru_cache(maxsize=64)
def _statement(template: str, postgres: bool, turn: int = 0) -> TextClause:
    parts = {
        "now": "now()" if postgres else ":now",
        "lease": "now() + :lease_seconds * interval '1 second'" if postgres else ":lease_until",
        "lock": "FOR UPDATE SKIP LOCKED" if postgres else "",
        "turn": str(turn),
        "limit": ":limit",
        "these": rows.these("notification_logs", postgres),
    }
    return text(template.format(**parts))


def _times(now: datetime, lease_seconds: float, postgres: bool) -> dict[str, Any]:
    if postgres:
        return {"lease_seconds": lease_seconds}
    return {"now": utc_text(now), "lease_until": utc_text(now + timedelta(seconds=lease_seconds))}


def slots(session: Session, lane: Lane, now: datetime) -> list[tuple[str, str]]:
    """The (tenant, channel) pairs of a lane that have something due."""
    postgres = rows.is_postgres(session)
    values: dict[str, Any] = {"lane": lane.value} | ({} if postgres else {"now": utc_text(now)})
    return [(str(row[0]), row[1]) for row in session.execute(_statement(_SLOTS, postgres), values)]


def claim_due(
    session: Session,
    lane: Lane,
    tenant_id: str,
    channel: str,
    now: datetime,
    lease_seconds: float,
    limit: int = BATCH,
    *,
    suspects_first: bool = False,
) -> list[Claim]:
    """Claim up to `limit` due deliveries: first attempts, then retries; else one suspect on its own.

    With `suspects_first` one suspect on its own, if there is any.
    """
    postgres = rows.is_postgres(session)
    values: dict[str, Any] = {"lane": lane.value, "tenant": tenant_id, "channel": channel}
    values |= {} if postgres else {"now": utc_text(now)}
    ids: list[str] = []
    for turn in (SUSPECT, FIRST, RETRY) if suspects_first else (FIRST, RETRY, SUSPECT):
        wanted = 1 if turn == SUSPECT else limit - len(ids)
        if wanted > 0:
            found = session.execute(_statement(_DUE, postgres, turn), values | {"limit": wanted})
            ids += [str(row[0]) for row in found]
        if ids and turn == (SUSPECT if suspects_first else RETRY):
            break
    return claim_these(session, tenant_id, ids, now, lease_seconds) if ids else []


def claim_these(
    session: Session, tenant_id: str, ids: Sequence[str], now: datetime, lease_seconds: float
) -> list[Claim]:
    """Claim those of `ids` that are pending, due or not, and write an attempt for each."""
    postgres = rows.is_postgres(session)
    values = {"tenant": tenant_id, "ids": rows.id_list(ids, postgres)} | _times(now, lease_seconds, postgres)
    statement = _statement(_TAKE, postgres).columns(
        id=Id, tenant_id=Id, event_id=Id, rule_id=Id, configuration_id=Id, created_at=Utc
    )
    claimed = [
        Claim(**row, attempt_id=new_id(), started_at=now) for row in session.execute(statement, values).mappings()
    ]
    rows.insert(
        session,
        Attempt,
        [
            {
                "id": claim.attempt_id,
                "tenant_id": tenant_id,
                "delivery_id": claim.id,
                "number": claim.attempt,
                "started_at": now,
            }
            for claim in claimed
        ],
    )
    return claimed
