"""Re-wake what was forgotten; do what is due; prune what is old. Every few seconds, in every worker process."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

import structlog
from sqlalchemy import delete, select, text
from sqlalchemy.orm import Session

from app import rows
from app.core import backlog, dedupes, erasures, pipeline, retention
from app.core.deliveries import breakers, claims, event_claims, lapsed, rates, send, turns
from app.core.outbox import Job, Lane
from app.core.runtime import Runtime
from app.metrics import DELIVERIES, LAST_SWEEP, LEASES_EXPIRED, WAKEUPS_LOST
from app.models import IdempotencyKey
from app.models.base import utc_text
from app.tenancy import Purpose, system
from providers.contract import Channel

log = structlog.get_logger()

MOST_LOSSES = 3  # the third time its worker is lost a delivery has failed
_OWN_SECONDS = 10.0  # of work that the sweeper does itself in one round
_LOCK_SPACE = 0x7469_6469  # "tidi", so that our advisory locks meet no one else's
_PRUNED = 5_000  # idempotency keys removed in one round
_HOUSE_SECONDS = 0.5  # of keeping house in one round, in batches
# Their order is their locks'.
_KINDS = ("leases", "rings", "prune", "backlog", "retention", "erasures", "event_leases", "lapsed")

# The first loss makes a delivery a suspect, which is tried on its own. The second may be a coincidence: somebody killed
# the worker while it tried an innocent one. The third is its end.
_TAKE_BACK = """
UPDATE notification_logs SET losses = losses + 1, lease_until = NULL, turn = {suspect}, updated_at = {now},
  status = CASE WHEN losses + 1 >= {most} THEN 'failed' ELSE 'pending' END, reason = 'worker_lost',
  next_attempt_at = CASE WHEN losses + 1 >= {most} THEN NULL ELSE {now} END
WHERE id IN (SELECT id FROM notification_logs WHERE status = 'sending' AND {expired} LIMIT 1000 {lock})
  AND status = 'sending' AND {expired}
RETURNING id, attempt, channel, status
"""
_LOST = """
UPDATE delivery_attempts SET outcome = 'lost', code = 'worker_lost', finished_at = {now}
FROM {rows} WHERE delivery_attempts.delivery_id = r.id AND delivery_attempts.number = r.attempt
  AND delivery_attempts.tenant_id = (SELECT tenant_id FROM notification_logs d WHERE d.id = r.id)
  AND delivery_attempts.outcome IS NULL
"""
_TAKE_BACK_EVENTS = """
UPDATE event_logs SET lease_until = NULL, next_attempt_at = {now},
  error = 'worker_lost', failures = failures + 1,
  status = CASE WHEN failures + 1 >= {most_failures} THEN 'failed' ELSE 'received' END
WHERE id IN (SELECT id FROM event_logs WHERE status = 'planning' AND {expired} LIMIT 1000 {lock})
  AND status = 'planning' AND {expired}
RETURNING id
"""


def sweep(runtime: Runtime) -> None:
    """One round. Each kind of work is done by one process at a time, and a failing kind keeps back no other."""
    failed = False
    for kind in _KINDS:
        try:
            _sweep_kind(runtime, kind)
        except Exception:
            failed = True
            log.exception("sweep_failed", kind=kind)
    if not failed:
        LAST_SWEEP.set_to_current_time()


def seconds_since(runtime: Runtime) -> float | None:
    """How long ago some worker last measured what waits, as a sweep does; None: none ever did."""
    with runtime.db.transaction(system(Purpose.SWEEP), read_only=True) as session:
        found = backlog.kept(session, runtime.clock.now())
    return found.age if found else None


def release_all_leases(runtime: Runtime) -> int:
    """For the embedded start, under the lock on the data directory: nobody else can hold a lease. Returns how many.

    What was under way when the process died counts as lost.
    """
    released = 0
    while True:
        with runtime.db.transaction(system(Purpose.SWEEP)) as session:
            now = runtime.clock.now()
            taken = _take_back(session, now, everything=True) + _take_back_events(session, now, everything=True)
        if not taken:
            return released
        released += taken


def ring_for_due(runtime: Runtime) -> None:
    """One ring for each job and lane that has something due. With the queue away, the sweeper does the work itself."""
    now = runtime.clock.now()
    with runtime.db.transaction(system(Purpose.SWEEP), read_only=True) as session:
        due = [(Job.PLAN, lane) for lane in Lane if event_claims.tenants(session, lane, now)]
        due += [(Job.DELIVER, lane) for lane in Lane if claims.slots(session, lane, now)]
        free = [channel for channel in Channel if rates.interval(runtime, channel) is None]
        forgotten = [(job, lane) for job, lane in due if backlog.is_forgotten(session, job, lane, now, free)]
    for job, lane in forgotten:
        if not runtime.bell.is_ringing(job, lane):
            WAKEUPS_LOST.labels(job.value, lane.value).inc()
    for job, lane in due:
        if not runtime.bell.ring(job, lane) and lane in runtime.settings.lanes:
            _do_it_here(runtime, job, lane)


def _do_it_here(runtime: Runtime, job: Job, lane: Lane) -> None:
    work = {Job.PLAN: pipeline.plan_events, Job.DELIVER: send.deliver}[job]
    end = time.monotonic() + _OWN_SECONDS
    while not runtime.stopping.is_set() and work(runtime, lane) and time.monotonic() < end:
        pass


def _sweep_kind(runtime: Runtime, kind: str) -> None:
    if kind == "rings":
        ring_for_due(runtime)
        return
    if kind == "erasures":
        _go_on_erasing(runtime)
        return
    if kind in ("retention", "lapsed"):
        _keep_house(runtime, kind)
        return
    with runtime.db.transaction(system(Purpose.SWEEP)) as session:
        if not _only_one(session, kind):
            return
        now = runtime.clock.now()
        if kind == "leases":
            _take_back(session, now)
        elif kind == "event_leases":
            _take_back_events(session, now)
        elif kind == "prune":
            _prune(session, runtime, now)
        else:
            _measure(session, runtime, now)


def _keep_house(runtime: Runtime, kind: str) -> None:
    """Remove or end what is too old, in short transactions; what is left is for the next round."""
    end = time.monotonic() + _HOUSE_SECONDS
    while time.monotonic() < end:
        with runtime.db.transaction(system(Purpose.SWEEP)) as session:
            if not _only_one(session, kind):
                return
            if kind == "lapsed" and not lapsed.end_some(session, runtime):
                return
            if kind == "retention" and not retention.prune(session, runtime.settings, runtime.clock.now()):
                return


def _go_on_erasing(runtime: Runtime) -> None:
    """What no request had the time for, or what had to wait for something on the wire."""
    with runtime.db.transaction(system(Purpose.SWEEP), read_only=True) as session:
        waiting = erasures.unfinished(session)
    end, failed = time.monotonic() + _HOUSE_SECONDS, {}
    for tenant_id, erasure_id in waiting:
        try:
            erasures.proceed(runtime, tenant_id, erasure_id, end)
        except Exception as error:  # one that fails keeps back no other
            failed[erasure_id] = error
    if failed:  # told once they are all through: a traceback takes longer to write than many of them take
        log.error("sweep_failed", kind="erasures", erasures=list(failed), exc_info=next(iter(failed.values())))


def _only_one(session: Session, kind: str) -> bool:
    """Take the advisory lock of a kind of work until the transaction ends. SQLite has one writer as it is."""
    if not rows.is_postgres(session):
        return True
    key = {"space": _LOCK_SPACE, "kind": _KINDS.index(kind)}
    return bool(session.execute(text("SELECT pg_try_advisory_xact_lock(:space, :kind)"), key).scalar())


def _take_back(session: Session, now: datetime, *, everything: bool = False) -> int:
    postgres = rows.is_postgres(session)
    words, values = _words(postgres, everything), _values(postgres, now)
    taken = session.execute(text(_TAKE_BACK.format(**words)), values).all()
    if taken:
        for row in taken:
            DELIVERIES.labels(row.channel, "failed" if row.status == "failed" else "retried").inc()
        lost = [{"id": str(row.id), "attempt": row.attempt} for row in taken]
        session.execute(text(_LOST.format(**words)), values | {"rows": rows.dumps(lost)})
    return _tell("delivery", len(taken))


def _take_back_events(session: Session, now: datetime, *, everything: bool = False) -> int:
    """In a transaction of its own: whoever holds an event keeps back no delivery."""
    postgres = rows.is_postgres(session)
    statement = text(_TAKE_BACK_EVENTS.format(**_words(postgres, everything)))
    return _tell("event", len(session.execute(statement, _values(postgres, now)).all()))


def _words(postgres: bool, everything: bool) -> dict[str, object]:
    clock = "now()" if postgres else ":now"
    return {
        "now": clock,
        "expired": "lease_until IS NOT NULL" if everything else f"lease_until < {clock}",
        "suspect": claims.SUSPECT,
        "most": MOST_LOSSES,
        "most_failures": event_claims.MOST_FAILURES,
        "lock": "FOR UPDATE SKIP LOCKED" if postgres else "",
        "rows": rows.source((("id", "uuid"), ("attempt", "integer")), postgres),
    }


def _values(postgres: bool, now: datetime) -> dict[str, str]:
    return {} if postgres else {"now": utc_text(now)}


def _tell(kind: str, count: int) -> int:
    if count:
        LEASES_EXPIRED.labels(kind).inc(count)
        log.warning("leases_taken_back", kind=kind, count=count)
    return count


def _prune(session: Session, runtime: Runtime, now: datetime) -> None:
    over = select(IdempotencyKey.id).where(IdempotencyKey.expires_at < now - timedelta(minutes=1)).limit(_PRUNED)
    session.execute(delete(IdempotencyKey).where(IdempotencyKey.id.in_(over)))
    dedupes.prune(session, now)
    breakers.prune(session, runtime)


def _measure(session: Session, runtime: Runtime, now: datetime) -> None:
    """What waits is counted by one process for all, and shown by each."""
    found = backlog.kept(session, now)
    if found is None or backlog.is_stale(found, runtime.settings.sweep_seconds):
        found = backlog.measure(session, now, turns.held_back(session, runtime))
    backlog.show(found)
