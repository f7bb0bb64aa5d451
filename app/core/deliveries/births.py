"""What becomes of fresh deliveries in the very transaction that plans them.

Those that this thread sends next are born claimed, with their first attempt: their rows are written once less. Those of
the bell go nowhere but into our own database: their words, the item and the result are written with them.

An event whose planning went wrong before has neither: whatever kills its worker shall harm only itself.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from app import rows
from app.core import inbox
from app.core.deliveries import content, witness
from app.core.deliveries.claims import FIRST, Claim
from app.core.deliveries.content import Known
from app.core.deliveries.drafts import Row
from app.core.deliveries.outbound import Parts
from app.core.deliveries.outcome import Tried
from app.core.runtime import Runtime
from app.db import Transaction
from app.ids import new_id
from app.models import Attempt, Delivery
from app.models.base import utc_text
from providers.contract import Accepted, Channel, DeliveryStatus, OutboundMessage

TELLING_SECONDS = 0.2  # of rendering within the transaction, which others wait for; the rest is sent as anything else
_LEASE = "CASE WHEN status = 'sending' THEN {until} END"


@dataclass(frozen=True, slots=True)
class Taken:
    """The deliveries that this thread sends itself: their ids, for how long it claims them, and when each event
    expires, by the monotonic clock.
    """

    ids: Collection[str]
    lease_seconds: float
    ends: Mapping[str, float]


@dataclass(slots=True)
class Told:
    """What the bell says at once: the claims with their words and their items, by delivery."""

    claims: dict[str, Claim] = field(default_factory=dict)
    parts: dict[str, Parts] = field(default_factory=dict)
    items: dict[str, dict[str, Any]] = field(default_factory=dict)
    began: float = field(default_factory=time.time)


def tell(session: Transaction, runtime: Runtime, fresh: Sequence[Row], known: Known, now: datetime) -> Told:
    """Find the words for those of some fresh deliveries that our own database is the receiver of."""
    told, end = Told(), time.monotonic() + TELLING_SECONDS
    own = [row for row in fresh if runtime.channels.is_own(Channel(row["channel"]))]
    claims = [_claim(row, now) for row in own]
    for batch in content.load(session, runtime, claims, known, end):
        prepared, words = content.compose(runtime, batch, end)
        for one in prepared:
            if isinstance(one.message, OutboundMessage):  # what has none is tried, and recorded, as anything else
                told.claims[one.claim.id] = one.claim
                told.parts[one.claim.id] = words[one.claim.id]
                told.items[one.claim.id] = inbox.item(one.message)
    return told


def write(
    session: Transaction, fresh: Sequence[Row], taken: Taken, told: Told, now: datetime
) -> tuple[list[Row], list[Claim]]:
    """Insert deliveries: (those that were not there yet, the claims of those that are `taken` by this thread)."""
    over = [_delivered(row, now) for row in fresh if row["id"] in told.claims]
    waiting = [_taken(row) if row["id"] in taken.ids else row for row in fresh if row["id"] not in told.claims]
    postgres = rows.is_postgres(session)
    until = "now() + :lease_seconds * interval '1 second'" if postgres else ":lease_until"
    seconds = taken.lease_seconds
    lease = {"lease_seconds": seconds} if postgres else {"lease_until": _after(now, seconds)}
    inserted = set(rows.insert(session, Delivery, over))
    inserted |= set(rows.insert(session, Delivery, waiting, also={"lease_until": _LEASE.format(until=until)}, **lease))
    mine = [row for row in waiting if row["id"] in taken.ids and row["id"] in inserted]
    claims = [_claim(row, now, taken.ends[row["event_id"]]) for row in mine]
    rows.put(session, Attempt, [_attempt(claim, now) for claim in claims])
    if done := [claim for claim in told.claims.values() if claim.id in inserted]:
        _keep(session, done, told, now)
    return [row for row in (*over, *waiting) if row["id"] in inserted], claims


def _keep(session: Transaction, done: Sequence[Claim], told: Told, now: datetime) -> None:
    """The words, the items and the attempts of what the bell has said."""
    tenant_id, each_ms = done[0].tenant_id, (time.time() - told.began) * 1000 / len(done)
    result = Accepted(status=DeliveryStatus.DELIVERED)
    tried = [Tried(claim, Channel.IN_APP.value, result, each_ms, "", told.began) for claim in done]
    over = {"provider": Channel.IN_APP.value, "finished_at": now, "duration_ms": each_ms, "outcome": "accepted"}
    content.keep(session, tenant_id, {claim.id: told.parts[claim.id] for claim in done}, now)
    inbox.add(session, tenant_id, [told.items[claim.id] for claim in done])
    rows.put(session, Attempt, [_attempt(claim, now) | over for claim in done])
    witness.recorded(session, tried, [{"outcome": "accepted", "status": result.status} for _ in done])


def _claim(row: Row, now: datetime, over_at: float = math.inf) -> Claim:
    """The claim of a delivery that is born with it."""
    return Claim(
        row["id"],
        row["tenant_id"],
        row["event_id"],
        row["event_type"],
        row["rule_id"],
        row["configuration_id"],
        row["user_id"],
        row["channel"],
        row["template"],
        row["address"],
        1,
        1,
        FIRST,
        0,
        row["trigger"],
        row["lane"],
        row["created_at"],
        over_at,
        row["traceparent"],
        new_id(),
        now,
    )


def _taken(row: Row) -> Row:
    return row | {"status": DeliveryStatus.SENDING.value, "attempt": 1, "tries": 1}


def _delivered(row: Row, now: datetime) -> Row:
    over = {"status": DeliveryStatus.DELIVERED.value, "attempt": 1, "tries": 1, "next_attempt_at": None}
    return row | over | {"provider": Channel.IN_APP.value, "sent_at": now, "delivered_at": now}


def _attempt(claim: Claim, now: datetime) -> Row:
    return {
        "id": claim.attempt_id,
        "tenant_id": claim.tenant_id,
        "delivery_id": claim.id,
        "number": claim.attempt,
        "started_at": now,
    }


def _after(now: datetime, seconds: float) -> str:
    return utc_text(now + timedelta(seconds=seconds))
