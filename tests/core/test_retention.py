"""What is too old goes, a window at a time; what is unfinished stays."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event as engine_event
from sqlalchemy import text

from app.config import Settings
from app.core import retention, sweeps
from app.core.deliveries import repair
from app.core.retention import MONTH_GRACE, REST
from app.core.runtime import Runtime
from app.models import Attempt, Delivery, DeliveryContent, Event, InAppNotification, WebhookAttempt
from app.tenancy import Purpose, system, tenant
from providers.contract import Channel
from tests.core.helpers import drain, post_direct, rows_of
from tests.history import write_day, write_notification

NOW = datetime.now(UTC)
DAY = timedelta(days=1)


@pytest.fixture
def make_settings() -> Callable[..., Settings]:
    kept = {"keep_events_days": 60, "keep_attempts_days": 20, "keep_contents_days": 10}
    kept |= {"keep_notifications_days": 60, "keep_read_notifications_days": 5}
    return lambda **values: Settings(**kept, **values)


def prune(runtime: Runtime, now: datetime = NOW) -> int:
    """Remove all that is too old; returns how many transactions it took."""
    count = 0
    while True:
        with runtime.db.transaction(system(Purpose.SWEEP)) as session:
            if not retention.prune(session, runtime.settings, now):
                return count
        count += 1


def left(runtime: Runtime, tenant_id: str, model: Any) -> list[str]:
    return [row.id for row in rows_of(runtime, tenant_id, model)]


def ages(runtime: Runtime, days: int) -> timedelta:
    """The age at which a row of a big table goes one by one."""
    return timedelta(days=days) + (timedelta(0) if runtime.db.is_sqlite else MONTH_GRACE) + DAY


def test_each_kind_goes_when_its_own_time_is_over(runtime: Runtime, tenant_id: str) -> None:
    # given days of several ages
    very_old, old, middle, young = (
        write_day(runtime, tenant_id, NOW - age)
        for age in (ages(runtime, 60), ages(runtime, 20), timedelta(days=11), DAY)
    )
    # when what is too old is removed
    prune(runtime)
    # then words go first, tries after them, and deliveries with their events last
    assert left(runtime, tenant_id, DeliveryContent) == [young]
    assert len(left(runtime, tenant_id, Attempt)) == len(left(runtime, tenant_id, WebhookAttempt)) == 2
    assert left(runtime, tenant_id, Delivery) == left(runtime, tenant_id, Event) == [old, middle, young]
    assert very_old not in left(runtime, tenant_id, Attempt)


@pytest.mark.parametrize(
    ("unfinished", "models"),
    [
        ({"delivery_status": "pending"}, (Delivery, Event, DeliveryContent)),
        ({"delivery_status": "sending", "outcome": None}, (Delivery, Event, DeliveryContent, Attempt)),
        ({"event_status": "received"}, (Event,)),
        ({"event_status": "planning"}, (Event,)),
    ],
)
def test_what_is_unfinished_stays_with_all_that_it_needs(
    runtime: Runtime, tenant_id: str, unfinished: dict[str, Any], models: tuple[Any, ...]
) -> None:
    made = write_day(runtime, tenant_id, NOW - timedelta(days=400), **unfinished)
    write_day(runtime, tenant_id, NOW - timedelta(days=399))
    prune(runtime)
    for model in (Delivery, Event, DeliveryContent, Attempt, WebhookAttempt):
        assert left(runtime, tenant_id, model) == ([made] if model in models else []), model


def test_what_was_unfinished_goes_in_a_later_round(runtime: Runtime, tenant_id: str) -> None:
    # given a delivery that was left, and is then finished
    write_day(runtime, tenant_id, NOW - timedelta(days=400), delivery_status="pending")
    prune(runtime)
    with runtime.db.transaction(system(Purpose.SWEEP)) as session:
        session.execute(text("UPDATE notification_logs SET status = 'failed', next_attempt_at = NULL"))
    # when the kinds have rested
    prune(runtime)
    assert len(left(runtime, tenant_id, Delivery)) == 1
    prune(runtime, NOW + REST + DAY)
    # then it goes, and its event with it
    assert left(runtime, tenant_id, Delivery) == left(runtime, tenant_id, Event) == []


def test_notifications_that_were_read_go_earlier(runtime: Runtime, tenant_id: str) -> None:
    write_notification(runtime, tenant_id, NOW - timedelta(days=61))
    write_notification(runtime, tenant_id, NOW - timedelta(days=30), read_at=NOW - timedelta(days=6))
    unread = write_notification(runtime, tenant_id, NOW - timedelta(days=30))
    just_read = write_notification(runtime, tenant_id, NOW - timedelta(days=29), read_at=NOW - DAY)
    prune(runtime)
    assert left(runtime, tenant_id, InAppNotification) == [unread, just_read]


class TestForEver:
    @pytest.fixture
    def make_settings(self) -> Callable[..., Settings]:
        never = {name: 0 for name in Settings.__dataclass_fields__ if name.startswith("keep_")}
        return lambda **values: Settings(**never, **values)

    def test_with_zero_nothing_goes(self, runtime: Runtime, tenant_id: str) -> None:
        made = write_day(runtime, tenant_id, NOW - timedelta(days=4000))
        assert prune(runtime) == 0
        assert left(runtime, tenant_id, DeliveryContent) == left(runtime, tenant_id, Event) == [made]


def test_no_transaction_looks_at_more_than_a_window(
    runtime: Runtime, tenant_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given windows of two rows, and five old days
    monkeypatch.setattr(retention, "BATCH", 2)
    for number in range(5):
        write_day(runtime, tenant_id, NOW - timedelta(days=400 - number))
    # when they are removed
    removed: list[int] = []

    def note(_conn: Any, cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.startswith("DELETE"):
            removed.append(cursor.rowcount)

    engine_event.listen(runtime.db.engine, "after_cursor_execute", note)
    prune(runtime)
    # then in steps of two
    assert removed == [2, 2, 1] * 5
    assert left(runtime, tenant_id, Event) == []


def test_another_process_goes_on_where_one_stopped(
    runtime: Runtime, tenant_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 1)
    for number in range(2):
        write_day(runtime, tenant_id, NOW - timedelta(days=400 - number), delivery_status="pending")
    with runtime.db.transaction(system(Purpose.SWEEP)) as session:
        assert retention.prune(session, runtime.settings, NOW)
    with runtime.db.transaction(system(Purpose.SWEEP)) as session:
        first = session.execute(text("SELECT value FROM service_state WHERE name = 'retention'")).scalar()
    assert "after" in str(first)
    # two windows, one look beyond them, for each of the kinds; the first window was looked at
    assert prune(runtime) == 3 * 5 + 2 - 1


def test_the_sweep_removes_what_is_too_old(runtime: Runtime, tenant_id: str) -> None:
    write_day(runtime, tenant_id, NOW - timedelta(days=400))
    models = (Delivery, Event, DeliveryContent, Attempt, WebhookAttempt)
    for _ in range(50):  # a round lasts half a second at most, whatever it has done by then
        sweeps.sweep(runtime)
        if not any(left(runtime, tenant_id, model) for model in models):
            break
    for model in models:
        assert left(runtime, tenant_id, model) == []


def test_what_lost_its_words_is_not_sent_empty(runtime: Runtime, tenant_id: str) -> None:
    # given a direct send that failed long ago, whose words are gone
    delivery_id = post_direct(runtime, tenant_id, Channel.IN_APP, "ada", title="t", text="words")
    with runtime.db.transaction(system(Purpose.SWEEP)) as session:
        session.execute(text("UPDATE notification_logs SET status = 'failed'"))
        session.execute(text("DELETE FROM delivery_contents"))
    # when somebody tries it again
    with runtime.db.transaction(tenant(tenant_id)) as session:
        repair.retry(session, runtime, tenant_id, delivery_id)
    drain(runtime)
    # then it fails and says why, and nothing arrived
    (found,) = rows_of(runtime, tenant_id, Delivery)
    assert (found.status, found.reason) == ("failed", "content_gone")
    assert left(runtime, tenant_id, InAppNotification) == []
