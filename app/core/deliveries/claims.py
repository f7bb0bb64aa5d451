"""Claiming: one conditional UPDATE … RETURNING, in two literal spellings with the same tests.

PostgreSQL compares due times and leases by its own clock and lets several workers pass one another
(SKIP LOCKED); its `now()` is when the transaction began, and can use an index. SQLite
has one writer, and the time is the caller's clock.

By the same clocks a claim says how long it may still be sent; from then on time is what passes here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from sqlalchemy import Boolean, TextClause, TextualSelect, text

from app import rows
from app.core.outbox import Lane
from app.db import Transaction, in_order
from app.ids import new_id
from app.models import Attempt
from app.models.base import Id, Utc, utc_text
from providers.contract import Channel

FIRST, RETRY, SUSPECT = 0, 1, 2  # Delivery.turn, in the order of claiming
BATCH = 100
_ORDERS = {FIRST: (FIRST, RETRY, SUSPECT), RETRY: (RETRY, FIRST, SUSPECT), SUSPECT: (SUSPECT, FIRST, RETRY)}

_COLUMNS = (
    "id, tenant_id, event_id, event_type, rule_id, configuration_id, user_id, channel, template, address,"
    " attempt, tries, turn, losses, trigger, lane, created_at, traceparent, {left} AS seconds_left"
)
_TAKE = (
    "UPDATE notification_logs SET status = 'sending', attempt = attempt + 1, tries = tries + 1,"
    " lease_until = {lease}, updated_at = {now} WHERE {these} AND (tenant_id = :tenant AND status = 'pending') IS TRUE"
    f" RETURNING {_COLUMNS}"
)
# Tenants take turns: each step goes to the next (tenant, channel, turn) by one probe of the index, however long a
# backlog is, and no further than somebody asks for.
_SLOTS_POSTGRES = """
WITH RECURSIVE waiting(tenant_id, channel, turn, due_at) AS (
  SELECT CAST(:tenant AS uuid), CAST(:channel AS varchar), 9, CAST(NULL AS timestamptz)
  UNION ALL
  SELECT n.tenant_id, n.channel, n.turn, n.next_attempt_at FROM waiting CROSS JOIN LATERAL (
    SELECT tenant_id, channel, turn, next_attempt_at FROM notification_logs
    WHERE status = 'pending' AND lane = :lane
    AND (tenant_id, channel, turn) > (waiting.tenant_id, waiting.channel, waiting.turn)
    ORDER BY tenant_id, channel, turn, next_attempt_at LIMIT 1) AS n
)
SELECT tenant_id, channel FROM waiting WHERE due_at <= now() AND channel = ANY(:channels) LIMIT :limit
"""
_SLOTS_SQLITE = """
WITH RECURSIVE waiting(tenant_id, channel, turn, due_at) AS (
  SELECT :tenant, :channel, 9, NULL
  UNION ALL
  SELECT n.tenant_id, n.channel, n.turn, n.next_attempt_at FROM waiting JOIN notification_logs AS n ON n.rowid = (
    SELECT d.rowid FROM notification_logs AS d WHERE d.status = 'pending' AND d.lane = :lane
    AND (d.tenant_id, d.channel, d.turn) > (waiting.tenant_id, waiting.channel, waiting.turn)
    ORDER BY d.tenant_id, d.channel, d.turn, d.next_attempt_at LIMIT 1)
)
SELECT tenant_id, channel FROM waiting
WHERE due_at <= :now AND channel IN (SELECT value FROM json_each(:channels)) LIMIT :limit
"""
_DUE = """
  SELECT id, address, configuration_id, created_at, reason, turn,
  expires_at IS NOT NULL AND expires_at <= {now} AS expired FROM notification_logs
  WHERE status = 'pending' AND lane = :lane AND tenant_id = :tenant
  AND channel = :channel AND turn = {turn} AND next_attempt_at <= {now}
  ORDER BY next_attempt_at LIMIT {limit} {lock}
"""
_PUT_OFF = """
UPDATE notification_logs SET status = r.status, reason = r.reason, next_attempt_at = {due}, updated_at = {now}
FROM {rows} WHERE {joined} AND (notification_logs.tenant_id = :tenant) IS TRUE AND notification_logs.id = r.id
  AND notification_logs.status = 'pending'
"""
_PUT_OFF_SPEC = (
    ("id", "uuid"),
    ("status", "text"),
    ("reason", "text"),
    ("delay", "double precision"),
    ("due_at", "text"),
)

Slot = tuple[str, str]  # tenant, channel
FIRST_SLOT: Slot = ("00000000-0000-0000-0000-000000000000", "")


@dataclass(frozen=True, slots=True)
class Due:
    """A delivery that may be claimed now, though it has perhaps `expired`."""

    id: str
    address: str
    configuration_id: str | None
    created_at: datetime
    reason: str | None
    turn: int
    expired: bool


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery that this worker may send, until its lease ends. `attempt` fences the result.

    `over_at`: when it expires, by the monotonic clock.
    """

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
    over_at: float = math.inf
    traceparent: str | None = None
    attempt_id: str = ""
    started_at: datetime | None = None

    @property
    def is_late(self) -> bool:
        """Whether it must not be sent any more."""
        return time.monotonic() >= self.over_at


def left(postgres: bool) -> str:
    """SQL: how many seconds are left until `expires_at`; NULL: it never comes."""
    if postgres:
        return "CAST(extract(epoch FROM expires_at - clock_timestamp()) AS double precision)"
    return "(julianday(expires_at) - julianday(:now)) * 86400"


def moment(seconds_left: float | None) -> float:
    """When what `left` said just now is over, by the monotonic clock."""
    return math.inf if seconds_left is None else time.monotonic() + seconds_left


@lru_cache(maxsize=64)
def _statement(template: str, postgres: bool, turn: int = 0) -> TextClause:
    parts = {
        "now": "now()" if postgres else ":now",
        "lease": "now() + :lease_seconds * interval '1 second'" if postgres else ":lease_until",
        "lock": "FOR UPDATE SKIP LOCKED" if postgres else "",
        "left": left(postgres),
        "turn": str(turn),
        "limit": ":limit",
        "these": rows.these("notification_logs", postgres),
        "joined": rows.these("notification_logs", postgres, joined=True),
        "rows": rows.source(_PUT_OFF_SPEC, postgres),
        "due": "now() + r.delay * interval '1 second'" if postgres else "r.due_at",
    }
    return text(template.format(**parts))


@lru_cache(maxsize=16)
def _read(template: str, postgres: bool, turn: int = 0) -> TextualSelect:
    """A statement whose rows are read. Made once: each new one would be compiled again."""
    types: dict[str, Any] = {"id": Id, "configuration_id": Id, "created_at": Utc}
    types |= {"tenant_id": Id, "event_id": Id, "rule_id": Id} if template is _TAKE else {"expired": Boolean}
    return _statement(template, postgres, turn).columns(**types)


def _times(now: datetime, lease_seconds: float, postgres: bool) -> dict[str, Any]:
    if postgres:
        return {"lease_seconds": lease_seconds}
    return {"now": utc_text(now), "lease_until": utc_text(now + timedelta(seconds=lease_seconds))}


def slots(
    session: Transaction,
    lane: Lane,
    now: datetime,
    after: Slot = FIRST_SLOT,
    channels: Iterable[str] = tuple(Channel),
    limit: int = 1,
) -> list[Slot]:
    """The next (tenant, channel) pairs of a lane that have something due, in order, from behind `after`.

    At most `limit`; a pair may come twice. The session must be a `system` one.
    """
    postgres = rows.is_postgres(session)
    names = [str(channel) for channel in channels]
    values: dict[str, Any] = {"lane": lane.value, "tenant": after[0], "channel": after[1], "limit": limit}
    values |= {"channels": names} if postgres else {"channels": rows.dumps(names), "now": utc_text(now)}
    statement = _statement(_SLOTS_POSTGRES if postgres else _SLOTS_SQLITE, postgres)
    return [(str(row[0]), row[1]) for row in session.execute(statement, values)]


def due(
    session: Transaction,
    lane: Lane,
    slot: Slot,
    now: datetime,
    limit: int = BATCH,
    *,
    first: int = FIRST,
    suspects: bool = True,
) -> list[Due]:
    """Up to `limit` deliveries that are due: first attempts, then retries; else one suspect on its own.

    `first` says of which turn they are taken before the others: with RETRY retries, then first attempts; with SUSPECT
    one suspect on its own, if there is any. Without `suspects` none. They are locked until the transaction ends.
    """
    postgres = rows.is_postgres(session)
    values: dict[str, Any] = {"lane": lane.value, "tenant": slot[0], "channel": slot[1]}
    values |= {} if postgres else {"now": utc_text(now)}
    found: list[Due] = []
    with in_order(session):
        for turn in _ORDERS[first]:
            if found and SUSPECT in (turn, found[0].turn):
                break
            wanted = int(suspects) if turn == SUSPECT else limit - len(found)
            if wanted > 0:
                statement = _read(_DUE, postgres, turn)
                found += [Due(*row) for row in session.execute(statement, values | {"limit": wanted})]
    return found


def put_off(session: Transaction, tenant_id: str, verdicts: Sequence[Mapping[str, Any]], now: datetime) -> None:
    """Move pending deliveries without a try. A verdict: id, status, reason, delay (seconds, or None)."""
    postgres = rows.is_postgres(session)
    ids = rows.id_list([verdict["id"] for verdict in verdicts], postgres)
    delays = [verdict["delay"] for verdict in verdicts]
    due = [None if delay is None else utc_text(now + timedelta(seconds=delay)) for delay in delays]
    written = [{**verdict, "due_at": due_at} for verdict, due_at in zip(verdicts, due, strict=True)]
    values = {"tenant": tenant_id, "ids": ids, "rows": rows.dumps(written)}
    session.execute(_statement(_PUT_OFF, postgres), values | ({} if postgres else {"now": utc_text(now)}))


def claim_these(
    session: Transaction, tenant_id: str, ids: Sequence[str], now: datetime, lease_seconds: float
) -> list[Claim]:
    """Claim those of `ids` that are pending, due or not, and write an attempt for each."""
    postgres = rows.is_postgres(session)
    values = {"tenant": tenant_id, "ids": rows.id_list(ids, postgres)} | _times(now, lease_seconds, postgres)
    statement = _read(_TAKE, postgres)
    claimed = [_claim(dict(row), now) for row in session.execute(statement, values).mappings()]
    rows.put(
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


def _claim(row: dict[str, Any], now: datetime) -> Claim:
    over_at = moment(row.pop("seconds_left"))
    return Claim(**row, over_at=over_at, attempt_id=new_id(), started_at=now)
