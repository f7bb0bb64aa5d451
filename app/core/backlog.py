"""How much waits, and for how long: measured by one process at a time, kept in `service_state` for all."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from app import rows
from app.core.outbox import Job, Lane
from app.metrics import BACKLOG, BREAKER_SECONDS, BREAKERS_OPEN, OLDEST_DUE_SECONDS
from app.models.base import Id, Json, Utc, utc_text
from providers.contract import Channel

UNFINISHED = ("received", "planning", "pending", "sending")  # of events the first two, of deliveries the others
LATE_SECONDS = 2.0  # new work that waits this long, in a lane where nobody does anything, was not announced
_SHARE = 50.0  # a measurement may take one part in so many of the time
_NAME = "backlog"

CEILING = 2  # times a limit: nobody may have more, nor may all together
_LARGEST = 100  # tenants of whom it is kept how much of theirs waits: whoever is behind them has less than they

# One branch for each partial index: `IN` would use neither.
_WAITING = """
SELECT lane, tenant_id, channel, 'pending' AS status, count(*) AS found, min(next_attempt_at) AS oldest, {now} AS at,
  count(*) FILTER (WHERE next_attempt_at <= {now}) AS due
FROM notification_logs WHERE status = 'pending' GROUP BY lane, tenant_id, channel
UNION ALL SELECT lane, tenant_id, channel, 'sending', count(*), NULL, {now}, count(*)
FROM notification_logs WHERE status = 'sending' GROUP BY lane, tenant_id, channel
UNION ALL SELECT lane, tenant_id, NULL, 'received', count(*), min(next_attempt_at), {now},
  count(*) FILTER (WHERE next_attempt_at <= {now})
FROM event_logs WHERE status = 'received' GROUP BY lane, tenant_id
UNION ALL SELECT lane, tenant_id, NULL, 'planning', count(*), NULL, {now}, count(*)
FROM event_logs WHERE status = 'planning' GROUP BY lane, tenant_id
"""
# By kind, which is how the name begins: the rest may be a host, and there are hosts without number.
_BREAKERS = """
SELECT {kind} AS kind, count(*) AS found, min(opened_at) AS opened_at, {now} AS at FROM breakers GROUP BY 1
"""
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
  AND (channel IN ('webhook', 'in_app') OR channel NOT IN (SELECT {kind} FROM breakers)))
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
class Pressure:
    """What is due in a lane and those before it, and whose it is.

    `due`: without what is held back by providers; `tenants`: of so many. `largest`: {tenant: how much of it}, of those
    that have most. `everything`: the same with what is held back.
    """

    due: int = 0
    tenants: int = 0
    largest: Mapping[str, int] = field(default_factory=dict)
    everything: Mapping[str, int] = field(default_factory=dict)

    def closes_to(self, tenant_id: str, limit: int) -> bool:
        """Whether a tenant may add no more, where `limit` may be due.

        When so much is, those are refused that have their share of it or more: the limit, divided among all that have
        anything. The others go on until there is twice as much, with nobody counted beyond his share.
        """
        if self.everything.get(tenant_id, 0) >= CEILING * limit:
            return True
        if self.due < limit:
            return False
        share = limit / max(1, self.tenants)
        if self.largest.get(tenant_id, 0) >= share:
            return True
        return self.due - sum(max(0.0, due - share) for due in self.largest.values()) >= CEILING * limit


@dataclass(frozen=True, slots=True)
class Backlog:
    """One measurement. `breakers` is {kind: (how many are open, seconds that the oldest is)}, `took` its seconds.

    `pressure`: by lane. `age`: how many seconds ago it was made.
    """

    lanes: Mapping[str, Waiting]
    breakers: Mapping[str, tuple[int, float]]
    took: float = 0.0
    age: float = 0.0
    pressure: Mapping[str, Pressure] = field(default_factory=dict)


def kept(session: Session, now: datetime) -> Backlog | None:
    """The last measurement, whoever made it; None before the first. Wants a `system` transaction."""
    statement = text(_KEPT.format(now=_now(session))).columns(value=Json, measured_at=Utc, at=Utc)
    row = session.execute(statement, {"name": _NAME} | _values(session, now)).one_or_none()
    if row is None:
        return None
    lanes = {lane: Waiting(**waiting) for lane, waiting in row.value["lanes"].items()}
    breakers = {kind: (int(found[0]), float(found[1])) for kind, found in row.value["breakers"].items()}
    pressure = {lane: Pressure(**found) for lane, found in row.value.get("pressure", {}).items()}
    return Backlog(lanes, breakers, row.value["took"], (row.at - row.measured_at).total_seconds(), pressure)


def is_stale(backlog: Backlog | None, every_seconds: float) -> bool:
    """Whether it is time to measure again; the longer it takes, the more seldom."""
    return backlog is None or backlog.age >= max(every_seconds, _SHARE * backlog.took)


def measure(session: Session, now: datetime, held: Collection[str] = ()) -> Backlog:
    """Count what waits, and keep it. Wants a `system` transaction.

    `held`: the channels on which work waits for others than our workers.
    """
    began = time.monotonic()
    values = _values(session, now)
    waiting = text(_WAITING.format(now=_now(session))).columns(tenant_id=Id, oldest=Utc, at=Utc)
    owed: dict[str, Counter[str]] = {lane.value: Counter() for lane in Lane}
    everything: dict[str, Counter[str]] = {lane.value: Counter() for lane in Lane}
    counts: dict[str, dict[str, int]] = {lane.value: dict.fromkeys(UNFINISHED, 0) for lane in Lane}
    oldest = dict.fromkeys(counts, 0.0)
    due = Counter[str]()
    for row in session.execute(waiting, values):
        counts.setdefault(row.lane, {}).setdefault(row.status, 0)
        counts[row.lane][row.status] += row.found
        due[row.lane] += row.due
        if row.due:
            everything.setdefault(row.lane, Counter())[row.tenant_id] += row.due
            owed.setdefault(row.lane, Counter())[row.tenant_id] += 0 if row.channel in held else row.due
        age = (row.at - row.oldest).total_seconds() if row.oldest else 0.0
        oldest[row.lane] = max(oldest.get(row.lane, 0.0), age)
    lanes = {lane: Waiting(counts[lane], round(oldest[lane], 3), due[lane]) for lane in counts}
    pressure = _pressure(owed, everything)
    found = Backlog(lanes, _breakers(session, values), round(time.monotonic() - began, 4), pressure=pressure)
    value = {name: given for name, given in asdict(found).items() if name != "age"}
    keep = _KEEP.format(now=_now(session), value="CAST(:value AS jsonb)" if rows.is_postgres(session) else ":value")
    session.execute(text(keep), values | {"name": _NAME, "value": rows.dumps(value)})
    return found


def _pressure(owed: Mapping[str, Counter[str]], everything: Mapping[str, Counter[str]]) -> dict[str, Pressure]:
    """By lane: of it and those before it. Each argument is {lane: {tenant: how much is due}}."""
    found, flowing, whole = {}, Counter[str](), Counter[str]()
    for lane in Lane:
        flowing += owed[lane.value]  # which keeps those with any
        whole += everything[lane.value]
        largest, most = dict(flowing.most_common(_LARGEST)), dict(whole.most_common(_LARGEST))
        found[lane.value] = Pressure(flowing.total(), len(flowing), largest, most)
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
    statement = _FORGOTTEN[job].format(late=since, channels=names, kind=_kind(session))
    return bool(session.execute(text(statement), values).scalar())


def _breakers(session: Session, values: Mapping[str, Any]) -> dict[str, tuple[int, float]]:
    statement = text(_BREAKERS.format(now=_now(session), kind=_kind(session))).columns(opened_at=Utc, at=Utc)
    found: dict[str, tuple[int, float]] = dict.fromkeys(("email", "sms", "webhook"), (0, 0.0))
    for row in session.execute(statement, values):
        found[row.kind] = (row.found, max(0.0, round((row.at - row.opened_at).total_seconds(), 3)))
    return found


def _kind(session: Session) -> str:
    """How the name of a breaker begins, in SQL."""
    return "split_part(name, ':', 1)" if rows.is_postgres(session) else "substr(name, 1, instr(name, ':') - 1)"


def _now(session: Session) -> str:
    return "now()" if rows.is_postgres(session) else ":now"


def _values(session: Session, now: datetime) -> dict[str, Any]:
    return {} if rows.is_postgres(session) else {"now": utc_text(now)}
