"""How much waits is measured once for all; work that nobody was told of is noticed."""

from __future__ import annotations

from datetime import timedelta

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text

from app import broker
from app.core import backlog, sweeps
from app.core.backlog import Backlog
from app.core.outbox import Job, Lane
from app.core.pipeline import EventInput
from app.core.runtime import Runtime
from app.models.base import utc_text
from app.tenancy import Purpose, system
from providers.contract import Channel
from tests.conftest import wait_until
from tests.core.helpers import accept, post_direct


def figure(name: str, **labels: str) -> float:
    """What a metric of this process says; 0 when it says nothing."""
    return REGISTRY.get_sample_value(name, labels) or 0.0


def measured(runtime: Runtime) -> Backlog:
    with runtime.db.transaction(system(Purpose.SWEEP)) as session:
        return backlog.measure(session, runtime.clock.now())


def kept(runtime: Runtime) -> Backlog | None:
    with runtime.db.transaction(system(Purpose.SWEEP), read_only=True) as session:
        return backlog.kept(session, runtime.clock.now())


def make_older(runtime: Runtime, table: str, **by: float) -> None:
    """As if every row of a table had been written, and due, so long ago."""
    then = utc_text(runtime.clock.now() - timedelta(**by))
    with runtime.db.transaction(system(Purpose.SWEEP)) as session:
        statement = f"UPDATE {table} SET created_at = :then, next_attempt_at = :then"
        session.execute(text(statement), {"then": then})


def test_what_waits_is_counted_by_lane_and_status(runtime: Runtime, tenant_id: str) -> None:
    accept(runtime, tenant_id, EventInput("a.b"), EventInput("a.b"))
    for _ in range(3):
        post_direct(runtime, tenant_id, Channel.IN_APP, "ada", title="Hello", text="Hello")
    make_older(runtime, "event_logs", seconds=90)

    found = measured(runtime)

    assert found.lanes["normal"].counts == {"received": 2, "planning": 0, "pending": 0, "sending": 0}
    assert found.lanes["transactional"].counts["pending"] == 3
    assert 85 < found.lanes["normal"].oldest < 150
    assert found.lanes["bulk"] == backlog.Waiting(dict.fromkeys(backlog.UNFINISHED, 0), 0.0)
    assert found.breakers == {"email": (0, 0.0), "sms": (0, 0.0), "webhook": (0, 0.0)}


def test_a_delivery_that_is_due_later_waits_for_nobody(runtime: Runtime, tenant_id: str) -> None:
    accept(runtime, tenant_id, EventInput("a.b"))
    make_older(runtime, "event_logs", seconds=-90)

    assert measured(runtime).lanes["normal"].oldest == 0.0


def test_breakers_are_counted_by_kind_not_by_host(runtime: Runtime, tenant_id: str) -> None:
    then = utc_text(runtime.clock.now() - timedelta(seconds=40))
    names = ("email:smtp", "webhook:t1:one.example", "webhook:t2:two.example")
    with runtime.db.transaction(system(Purpose.SWEEP)) as session:
        for name in names:
            session.execute(
                text("INSERT INTO breakers (name, reason, opened_at, probe_at) VALUES (:name, 'timeout', :at, :at)"),
                {"name": name, "at": then},
            )

    found = measured(runtime).breakers

    assert {kind: count for kind, (count, _) in found.items()} == {"email": 1, "sms": 0, "webhook": 2}
    assert 35 < found["email"][1] < 100


def test_a_measurement_is_kept_for_every_process(runtime: Runtime, tenant_id: str) -> None:
    assert kept(runtime) is None

    made = measured(runtime)

    found = kept(runtime)
    assert found is not None
    assert (found.lanes, found.breakers) == (made.lanes, made.breakers)
    assert 0 <= found.age < 30


def test_measuring_takes_a_small_part_of_the_time() -> None:
    assert backlog.is_stale(None, 3)
    assert backlog.is_stale(Backlog({}, {}, took=0.01, age=3.0), 3)
    assert not backlog.is_stale(Backlog({}, {}, took=0.01, age=2.0), 3)
    assert not backlog.is_stale(Backlog({}, {}, took=2.0, age=90.0), 3)
    assert backlog.is_stale(Backlog({}, {}, took=2.0, age=101.0), 3)


def test_a_sweep_shows_what_waits(runtime: Runtime, tenant_id: str) -> None:
    for lane in Lane:
        accept(runtime, tenant_id, EventInput("a.b", lane=lane))

    sweeps.sweep(runtime)

    assert figure("tidings_backlog", lane="bulk", status="received") == 1
    assert figure("tidings_last_sweep_timestamp_seconds") > 0


@pytest.mark.parametrize("lane", list(Lane))
def test_new_work_that_no_bell_was_heard_for_is_counted(
    runtime: Runtime, tenant_id: str, lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given that neither is over while a busy machine stands still: the time of new work, nor that of a ring
    monkeypatch.setattr(backlog, "LATE_SECONDS", 60.0)
    monkeypatch.setattr(broker, "_UNANSWERED_MS", 600_000)
    accept(runtime, tenant_id, EventInput("a.b", lane=lane))
    wait_until(lambda: runtime.bell.is_ringing(Job.PLAN, lane))
    runtime.bell.heard(Job.PLAN, lane)  # whoever heard it did nothing
    before = figure("tidings_wakeups_lost_total", step="plan", lane=lane.value)

    sweeps.ring_for_due(runtime)
    young = figure("tidings_wakeups_lost_total", step="plan", lane=lane.value)
    runtime.bell.heard(Job.PLAN, lane)
    make_older(runtime, "event_logs", seconds=120)
    sweeps.ring_for_due(runtime)
    old = figure("tidings_wakeups_lost_total", step="plan", lane=lane.value)
    sweeps.ring_for_due(runtime)  # by now the bell rings

    assert (young - before, old - before) == (0, 1)
    assert figure("tidings_wakeups_lost_total", step="plan", lane=lane.value) == old


def test_a_retry_that_falls_due_is_the_sweeps_to_announce(runtime: Runtime, tenant_id: str) -> None:
    post_direct(runtime, tenant_id, Channel.IN_APP, "ada", title="Hello", text="Hello")
    make_older(runtime, "notification_logs", seconds=30)
    now = runtime.clock.now()

    def forgotten() -> bool:
        with runtime.db.transaction(system(Purpose.SWEEP), read_only=True) as session:
            return backlog.is_forgotten(session, Job.DELIVER, Lane.TRANSACTIONAL, now, list(Channel))

    assert forgotten()
    for change in ("turn = 1", "turn = 0, attempt = 1", "attempt = 0"):
        with runtime.db.transaction(system(Purpose.SWEEP)) as session:
            session.execute(text(f"UPDATE notification_logs SET {change} WHERE status = 'pending'"))
        assert forgotten() == (change == "attempt = 0")
    with runtime.db.transaction(system(Purpose.SWEEP)) as session:
        later = utc_text(now - timedelta(seconds=20))
        session.execute(text("UPDATE notification_logs SET next_attempt_at = :later"), {"later": later})
    assert not forgotten()


def test_work_in_a_busy_lane_is_not_forgotten(runtime: Runtime, tenant_id: str) -> None:
    accept(runtime, tenant_id, EventInput("a.b"), EventInput("a.b"))
    make_older(runtime, "event_logs", seconds=30)
    with runtime.db.transaction(system(Purpose.SWEEP)) as session:
        session.execute(
            text(
                "UPDATE event_logs SET status = 'planning', attempt = 1"
                " WHERE id = (SELECT id FROM event_logs ORDER BY id LIMIT 1)"
            )
        )

    with runtime.db.transaction(system(Purpose.SWEEP), read_only=True) as session:
        assert not backlog.is_forgotten(session, Job.PLAN, Lane.NORMAL, runtime.clock.now(), [])


def test_what_waits_for_a_rate_or_for_a_provider_that_is_down_is_not_forgotten(
    runtime: Runtime, tenant_id: str
) -> None:
    post_direct(runtime, tenant_id, Channel.SMS, "+15005550006", text="Hello")
    with runtime.db.transaction(system(Purpose.SWEEP)) as session:
        session.execute(text("UPDATE notification_logs SET status = 'pending', reason = NULL"))
    make_older(runtime, "notification_logs", seconds=30)
    now = runtime.clock.now()

    def forgotten(*channels: Channel) -> bool:
        with runtime.db.transaction(system(Purpose.SWEEP), read_only=True) as session:
            return backlog.is_forgotten(session, Job.DELIVER, Lane.TRANSACTIONAL, now, channels)

    assert forgotten(*Channel)
    assert not forgotten(Channel.EMAIL, Channel.WEBHOOK, Channel.IN_APP)
    with runtime.db.transaction(system(Purpose.SWEEP)) as session:
        opened = "INSERT INTO breakers (name, reason, opened_at, probe_at) VALUES ('sms:twilio', 'timeout', :now, :now)"
        session.execute(text(opened), {"now": utc_text(now)})
    assert not forgotten(*Channel)
