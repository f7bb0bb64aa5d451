"""How far an event has come: what is counted, how often, and that its deliveries are found by their ids."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from app.core import events, pipeline
from app.core.deliveries import records
from app.core.deliveries.records import Counted
from app.core.outbox import Lane
from app.core.pipeline import EventInput
from app.core.runtime import Runtime
from app.models import Delivery, Event
from app.paging import Cursor
from app.tenancy import tenant
from providers.contract import DeliveryStatus
from tests.core.helpers import ORDER, accept, keep_only, rows_of


@pytest.fixture
def event_id(runtime: Runtime, tenant_id: str, whole_pages: None) -> str:
    """An event for three people, planned."""
    keep_only(runtime, tenant_id, "in_app")
    (found,) = accept(runtime, tenant_id, EventInput("order.created", data=ORDER, user_ids=("ada", "bob", "cy")))
    pipeline.plan_events(runtime, Lane.NORMAL)
    return found


def count(runtime: Runtime, tenant_id: str, event_id: str) -> Counted:
    with runtime.db.transaction(tenant(tenant_id), read_only=True) as session:
        return records.counts(session, tenant_id, event_id, runtime.clock.now())


def fail_all(runtime: Runtime, tenant_id: str) -> None:
    with runtime.db.transaction(tenant(tenant_id)) as session:
        session.execute(update(Delivery).where(Delivery.tenant_id == tenant_id).values(status="failed"))


def test_what_is_counted_quickly_is_counted_at_each_look(
    runtime: Runtime, tenant_id: str, event_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "_LONG_SECONDS", 60.0)  # a busy machine may take a tenth of a second for three rows
    assert count(runtime, tenant_id, event_id).counts == {"delivered": 3}
    fail_all(runtime, tenant_id)
    assert count(runtime, tenant_id, event_id).counts == {"failed": 3}


def test_what_takes_long_to_count_is_told_with_its_time_for_a_while(
    runtime: Runtime, tenant_id: str, event_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given that counting lasts, and a count
    monkeypatch.setattr(records, "_LONG_SECONDS", -1.0)
    monkeypatch.setattr(records, "_REST", 1e9)
    first = count(runtime, tenant_id, event_id)
    # when all changes
    fail_all(runtime, tenant_id)
    # then the count is told again, until its time is over
    assert count(runtime, tenant_id, event_id) is first
    monkeypatch.setattr(records, "_counted", type(records._counted)())
    assert count(runtime, tenant_id, event_id).counts == {"failed": 3}


def test_every_status_counts_as_one_of_the_four(runtime: Runtime, tenant_id: str, event_id: str) -> None:
    (event,) = rows_of(runtime, tenant_id, Event, id=event_id)
    counted = Counted(dict.fromkeys((status.value for status in DeliveryStatus), 1), runtime.clock.now())
    with runtime.db.transaction(tenant(tenant_id), read_only=True) as session:
        found = events.progress(session, event, counted)
    assert found["planned"] == len(DeliveryStatus)
    assert sum(found[word] for word in ("sent", "failed", "skipped", "pending")) == len(DeliveryStatus)


def test_the_deliveries_of_an_event_are_all_found_among_others(runtime: Runtime, tenant_id: str, event_id: str) -> None:
    (other,) = accept(runtime, tenant_id, EventInput("order.created", data=ORDER, user_ids=("dan",)))
    pipeline.plan_events(runtime, Lane.NORMAL)
    with runtime.db.transaction(tenant(tenant_id), read_only=True) as session:
        people = [
            {item.user_id for item in records.search(session, tenant_id, Cursor(), event_id=wanted).items}
            for wanted in (event_id, other.upper())
        ]
    assert people == [{"ada", "bob", "cy"}, {"dan"}]
