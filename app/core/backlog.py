"""How much waits, and for how long: measured by one process at a time, kept in `service_state` for all."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from app import rows
from app.core.outbox import Job, Lane
from app.metrics import BACKLOG, BREAKER_SECONDS, BREAKERS_OPEN, OLDEST_DUE_SECONDS
from app.models.base import Json, Utc, utc_text
from providers.contract import Channel

UNFINISHED = ("received", "planning", "pending", "sending")  # of events the first two, of deliveries the others
LATE_SECONDS = 2.0  # new work that waits this long, in a lane where nobody does anything, was not announced
_SHARE = 50.0  # a measurement may take one part in so many of the time
_NAME = "backlog"

# One branch for each partial index: `IN` would use neither.
_WAITING = """
SELECT lane, 'pending' AS status, count(*) AS found, min(next_attempt_at) AS oldest, {now} AS at,
  count(*) FILTER (WHERE next_attempt_at <= {now}) AS due
FROM notification_logs WHERE status = 'pending' GROUP BY lane
UNION ALL SELECT lane, 'sending', count(*), NULL, {now}, count(*)
FROM notification_logs WHERE status = 'sending' GROUP BY lane
UNION ALL SELECT lane, 'received', count(*), min(next_attempt_at), {now},
  count(*) FILTER (WHERE next_attempt_at <= {now})
FROM event_logs WHERE status = 'received' GROUP BY lane
UNION ALL SELECT lane, 'planning', count(*), NULL, {now}, count(*)
FROM event_logs WHERE status = 'planning' GROUP BY lane
"""
_BREAKERS = "SELECT name, opened_at, {now} AS at FROM breakers"
_KEEP = """
INSERT INTO service_state (name, value, measured_at) VALUES (:name, {value}, {now})
ON CONFLICT (name) DO UPDATE SET value = excluded.value, measured_at = excluded.measured_at
"""
_KEPT = "SELECT value, measured_at, {now} AS at FROM service_state WHERE name = :name"
# Nobody is at work in the lane, and something is late that was due when it was written: what is due later, the sweep
# itself is there to announce.
_FORGOTTEN = {
    Job.PLAN: """
SELECT EXISTS (SELECT 1 FROM event_logs WHERE status = 'received' AND lane = :lane AND next_attempt_at <= {late}
  AND attempt = 0)
AND NOT EXISTS (SELECT 1 FROM event_logs WHERE status = 'planning' AND lane = :lane)
""",
    Job.DELIVER: """
SELECT EXISTS (SELECT 1 FROM notification_logs WHERE status = 'pending' AND lane = :lane AND turn = 0
  AND next_attempt_at <= {late} AND next_attempt_at <= created_at AND attempt = 0 AND channel IN ({channels})
  AND (channel IN ('webhook', 'in_app')
       OR NOT EXISTS (SELECT 1 FROM breakers WHERE breakers.name LIKE notification_logs.channel || ':%')))
AND NOT EXISTS (SELECT 1 FROM notification_logs WHERE status = 'sending' AND lane = :lane)
""",
}


@dataclass(frozen=True, slots=True)
class Waiting:
    """What is unfinished in one lane: rows by status, and the seconds that the oldest due row waits.

    `due`: how many of them do not wait for a later time.
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    oldest: float = 0.0
    due: int = 0


@dataclass(frozen=True, slots=True)
class Backlog:
    """One measurement. `breakers` is {kind: (how many are open, seconds that the oldest is)}, `took` its seconds.

    `age`: how many seconds ago it was made.
    """

    lanes: Mapping[str, Waiting]
    breakers: Mapping[str, tuple[int, float]]
    took: float = 0.0
    age: float = 0.0


def kept(session: Session, now: datetime) -> Backlog | None:
    """The last measurement, whoever made it; None before the first. Wants a `system` transaction."""
    statement = text(_KEPT.format(now=_now(session))).columns(value=Json, measured_at=Utc, at=Utc)
    row = session.execute(statement, {"name": _NAME} | _values(session, now)).one_or_none()
    if row is None:
        return None
    lanes = {lane: Waiting(**waiting) for lane, waiting in row.value["lanes"].items()}
    breakers = {kind: (int(found[0]), float(found[1])) for kind, found in row.value["breakers"].items()}
    return Backlog(lanes, breakers, row.value["took"], (row.at - row.measured_at).total_seconds())


def is_stale(backlog: Backlog | None, every_seconds: float) -> bool:
    """Whether it is time to measure again; the longer it takes, the more seldom."""
    return backlog is None or backlog.age >= max(every_seconds, _SHARE * backlog.took)


def measure(session: Session, now: datetime) -> Backlog:
    """Count what waits, and keep it. Wants a `system` transaction."""
    began = time.monotonic()
    values = _values(session, now)
    waiting = text(_WAITING.format(now=_now(session))).columns(oldest=Utc, at=Utc)
    counts: dict[str, dict[str, int]] = {lane.value: dict.fromkeys(UNFINISHED, 0) for lane in Lane}
    oldest = dict.fromkeys(counts, 0.0)
    due = Counter[str]()
    for row in session.execute(waiting, values):
        counts.setdefault(row.lane, {})[row.status] = row.found
        due[row.lane] += row.due
        age = (row.at - row.oldest).total_seconds() if row.oldest else 0.0
        oldest[row.lane] = max(oldest.get(row.lane, 0.0), age)
    lanes = {lane: Waiting(counts[lane], round(oldest[lane], 3), due[lane]) for lane in counts}
    found = Backlog(lanes, _breakers(session, values), round(time.monotonic() - began, 4))
    value = {name: given for name, given in asdict(found).items() if name != "age"}
    keep = _KEEP.format(now=_now(session), value="CAST(:value AS jsonb)" if rows.is_postgres(session) else ":value")
    session.execute(text(keep), values | {"name": _NAME, "value": rows.dumps(value)})
    return found


def show(backlog: Backlog) -> None:
    """Have the metrics of this process say what was measured."""
    for lane, waiting in backlog.lanes.items():
        for status, found in waiting.counts.items():
            BACKLOG.labels(lane, status).set(found)
        OLDEST_DUE_SECONDS.labels(lane).set(waiting.oldest)
    for kind, (found, seconds) in backlog.breakers.items():
        BREAKERS_OPEN.labels(kind).set(found)
        BREAKER_SECONDS.labels(kind).set(seconds)


def is_forgotten(session: Session, job: Job, lane: Lane, now: datetime, channels: Iterable[Channel]) -> bool:
    """Whether `job` has new work in `lane` that waits for LATE_SECONDS while nobody is at work there.

    `channels`: those without a rate. What waits for its rate, or for a provider that is down, is not forgotten.
    """
    postgres = rows.is_postgres(session)
    since = f"now() - interval '{LATE_SECONDS} seconds'" if postgres else ":late"
    names = ", ".join(f"'{channel}'" for channel in channels)
    values = {"lane": lane.value} | ({} if postgres else {"late": utc_text(now - timedelta(seconds=LATE_SECONDS))})
    return bool(session.execute(text(_FORGOTTEN[job].format(late=since, channels=names)), values).scalar())


def _breakers(session: Session, values: Mapping[str, Any]) -> dict[str, tuple[int, float]]:
    """By kind, which is how the name begins: the rest may be a host, and there are hosts without number."""
    statement = text(_BREAKERS.format(now=_now(session))).columns(opened_at=Utc, at=Utc)
    open_: Counter[str] = Counter(dict.fromkeys(("email", "sms", "webhook"), 0))
    longest: dict[str, float] = dict.fromkeys(open_, 0.0)
    for row in session.execute(statement, values):
        kind = row.name.partition(":")[0]
        open_[kind] += 1
        longest[kind] = max(longest.get(kind, 0.0), round((row.at - row.opened_at).total_seconds(), 3))
    return {kind: (open_[kind], longest[kind]) for kind in open_}


def _now(session: Session) -> str:
    return "now()" if rows.is_postgres(session) else ":now"


def _values(session: Session, now: datetime) -> dict[str, Any]:
    return {} if rows.is_postgres(session) else {"now": utc_text(now)}
