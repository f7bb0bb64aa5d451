"""Email and SMS that wait for providers that are down: what is too late meanwhile comes to its end without a try.

Elsewhere that is noticed when a delivery is claimed; of a channel none of whose providers answers nothing is claimed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import text
from sqlalchemy.orm import Session

from app import rows
from app.core.channels import label
from app.core.deliveries import breakers, witness
from app.core.deliveries.breakers import Open
from app.core.deliveries.schedule import JITTER, schedule_for
from app.core.outbox import Lane
from app.core.runtime import Runtime
from app.db import Database
from app.models.base import Id, utc_text
from providers.contract import Channel

MOST = 500  # that are ended in one go
_SHARE = 50.0  # a look may take one part in so many of the time: it goes over all that waits

_END = """
UPDATE notification_logs SET next_attempt_at = NULL, updated_at = {now},
  status = CASE WHEN expires_at <= {now} THEN 'skipped' ELSE 'failed' END,
  reason = CASE WHEN expires_at <= {now} THEN 'expired' ELSE 'circuit_open' END
WHERE status = 'pending' AND id IN (
  SELECT id FROM notification_logs WHERE status = 'pending' AND lane IN ({lanes}) AND channel = :channel
  AND (expires_at <= {now} OR {given_up}) LIMIT {most} {lock})
RETURNING id, status, reason
"""
_not_before: WeakKeyDictionary[Database, dict[Channel, float]] = WeakKeyDictionary()


def end_some(session: Session, runtime: Runtime) -> int:
    """Skip what has expired, fail what nobody took for longer than its schedule lasts. Returns how many, at most MOST
    of each channel.

    The session must be a `system` one.
    """
    open_ = {state.name: state for state in breakers.states(session, runtime.clock.now())}
    rests = _not_before.setdefault(runtime.db, {})
    ended = 0
    for channel in (Channel.EMAIL, Channel.SMS):
        names = [label(provider) for provider in runtime.channels.providers(channel)]
        began = time.monotonic()
        if not names or not open_.keys() >= set(names) or began < rests.get(channel, 0.0):
            continue
        found = _end(session, runtime, channel, max((open_[name] for name in names), key=_opened_at))
        ended += found
        if found < MOST:
            now = time.monotonic()
            rests[channel] = now + _SHARE * (now - began)
    return ended


def _opened_at(state: Open) -> datetime:
    return state.opened_at


def _end(session: Session, runtime: Runtime, channel: Channel, last: Open) -> int:
    """`last`: the provider that has answered longest."""
    postgres, now = rows.is_postgres(session), runtime.clock.now()
    patience = _patience(runtime, channel)
    words: dict[str, Any] = {
        "now": "now()" if postgres else ":now",
        "lanes": ", ".join(f"'{lane.value}'" for lane in Lane),
        "given_up": "FALSE",
        "most": MOST,
        "lock": "FOR UPDATE SKIP LOCKED" if postgres else "",
    }
    values: dict[str, Any] = {"channel": channel.value} | ({} if postgres else {"now": utc_text(now)})
    if last.opened_at < now - patience:
        words["given_up"] = "updated_at < " + ("now() - :patience * interval '1 second'" if postgres else ":old")
        values |= {"patience": patience.total_seconds()} if postgres else {"old": utc_text(now - patience)}
    found = session.execute(text(_END.format(**words)).columns(id=Id), values).mappings().all()
    verdicts: list[Mapping[str, Any]] = [dict(row) for row in found]
    witness.ended(session, channel, verdicts)
    return len(verdicts)


def _patience(runtime: Runtime, channel: Channel) -> timedelta:
    """How long a delivery waits for providers that are down: the whole span of its schedule."""
    span = sum(schedule_for(channel, runtime.settings)) * (1 + JITTER)
    return timedelta(seconds=max(span, runtime.settings.breaker_max_seconds))
