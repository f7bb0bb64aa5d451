"""Lanes and expiry in planning: where deliveries wait, and which are too late."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update

from app.core import direct, pipeline
from app.core.deliveries import send
from app.core.direct import DirectSend
from app.core.outbox import Job, Lane
from app.core.pipeline import EventInput
from app.core.runtime import Runtime
from app.errors import InvalidError
from app.models import Delivery, Event, Rule
from app.tenancy import Purpose, system, tenant
from providers.contract import Accepted, Channel, OutboundMessage
from tests.core.helpers import ORDER, accept, add_endpoint, keep_only, post_direct, rows_of
from tests.core.scripted import Scripted, with_providers


@pytest.fixture(autouse=True)
def only_the_bell(runtime: Runtime, tenant_id: str) -> None:
    keep_only(runtime, tenant_id, "in_app")


class Listener:
    """Hears which rings would go out."""

    def __init__(self) -> None:
        self.rings: list[tuple[str, str]] = []

    def ring(self, job: Job, lane: Lane) -> bool:
        self.rings.append((job.value, Lane(lane).value))
        return True

    ring_soon = ring


@pytest.fixture
def rings(runtime: Runtime) -> list[tuple[str, str]]:
    listener = Listener()
    runtime.db.bell = listener
    return listener.rings


def put_rule_into(runtime: Runtime, tenant_id: str, lane: Lane | None) -> None:
    with runtime.db.transaction(tenant(tenant_id)) as session:
        session.execute(update(Rule).where(Rule.tenant_id == tenant_id).values(lane=lane.value if lane else None))


def order(**fields: Any) -> EventInput:
    return EventInput("order.created", data=ORDER, user_ids=("ada",), **fields)


@pytest.mark.parametrize("lane", Lane)
def test_an_event_and_its_deliveries_wait_in_its_lane(
    runtime: Runtime, tenant_id: str, rings: list[tuple[str, str]], lane: Lane
) -> None:
    accept(runtime, tenant_id, order(lane=lane))
    assert rings == [("plan", lane.value)]
    for other in set(Lane) - {lane}:
        assert pipeline.plan_events(runtime, other) == 0
    assert pipeline.plan_events(runtime, lane) == 1
    assert {row.lane for row in rows_of(runtime, tenant_id, Delivery)} == {lane.value}


def test_a_rules_lane_wins_and_is_rung_for(runtime: Runtime, tenant_id: str, rings: list[tuple[str, str]]) -> None:
    # given a rule whose deliveries are bulk, whatever the event is
    put_rule_into(runtime, tenant_id, Lane.BULK)
    accept(runtime, tenant_id, order(lane=Lane.TRANSACTIONAL))
    rings.clear()
    # when the event is planned in its own lane
    pipeline.plan_events(runtime, Lane.TRANSACTIONAL)
    # then its thread sends nothing of another lane, which is told
    (made,) = rows_of(runtime, tenant_id, Delivery)
    assert (made.lane, made.status, made.attempt) == ("bulk", "pending", 0)
    assert rings == [("deliver", "bulk")]


def test_events_of_several_lanes_in_one_batch_ring_each(
    runtime: Runtime, tenant_id: str, rings: list[tuple[str, str]]
) -> None:
    accept(runtime, tenant_id, *[order(lane=lane) for lane in (Lane.BULK, Lane.NORMAL, Lane.BULK)])
    assert sorted(rings) == [("plan", "bulk"), ("plan", "normal")]


def test_what_is_too_late_when_it_is_planned_is_skipped_with_its_reason(runtime: Runtime, tenant_id: str) -> None:
    now = runtime.clock.now()
    (late, early, never) = accept(
        runtime,
        tenant_id,
        order(expires_at=now - timedelta(seconds=1)),
        order(expires_at=now + timedelta(hours=1)),
        order(),
    )
    while pipeline.plan_events(runtime, Lane.NORMAL):
        pass
    found = {row.event_id: row for row in rows_of(runtime, tenant_id, Delivery, channel="in_app")}
    assert (found[late].status, found[late].reason) == ("skipped", "expired")
    assert (found[early].status, found[early].expires_at) == ("delivered", now + timedelta(hours=1))
    assert (found[never].status, found[never].expires_at) == ("delivered", None)


def slowly(until: datetime) -> Callable[[OutboundMessage], Accepted]:
    """What takes messages, and is not done with one before `until`."""

    def act(_message: OutboundMessage) -> Accepted:
        while datetime.now(UTC) <= until:
            time.sleep(0.05)
        return Accepted("id")

    return act


def test_what_expires_while_those_before_it_are_sent_is_skipped(runtime: Runtime, tenant_id: str) -> None:
    # given a batch whose first message takes longer than the second may
    ends = runtime.clock.now() + timedelta(seconds=1)
    provider = Scripted(Channel.SMS, slowly(ends))
    house = with_providers(runtime, provider)
    first, second = (post_direct(house, tenant_id, Channel.SMS, "+15005550001", text="Words") for _ in range(2))
    with runtime.db.transaction(system(Purpose.MIGRATE)) as session:
        session.execute(update(Delivery).where(Delivery.id == second).values(expires_at=ends))
    # when it is sent
    send.deliver(house, Lane.TRANSACTIONAL)
    # then the second is not
    assert provider.began == [first]
    made = {row.id: (row.status, row.reason) for row in rows_of(house, tenant_id, Delivery)}
    assert made == {first: ("sent", None), second: ("skipped", "expired")}


def test_what_expires_while_its_planner_sends_those_before_it_is_skipped(runtime: Runtime, tenant_id: str) -> None:
    # given two events, the first of which makes what takes longer than the second may
    add_endpoint(runtime, tenant_id, "http://127.0.0.1/")
    ends = runtime.clock.now() + timedelta(seconds=1)
    house = with_providers(runtime, Scripted(Channel.WEBHOOK, slowly(ends)))
    first, second = accept(house, tenant_id, EventInput("a.b"), EventInput("a.b", expires_at=ends))
    # when they are planned, and sent at once
    while pipeline.plan_events(house, Lane.NORMAL):
        pass
    # then the second's is not
    made = {row.event_id: (row.status, row.reason) for row in rows_of(house, tenant_id, Delivery)}
    assert made == {first: ("sent", None), second: ("skipped", "expired")}


def test_a_direct_send_waits_where_it_says_and_until_when(runtime: Runtime, tenant_id: str) -> None:
    until = runtime.clock.now() + timedelta(hours=1)
    plain = DirectSend(Channel.IN_APP, ("ada",), {"title": "t", "text": "m"})
    bulk = DirectSend(Channel.IN_APP, ("bob",), {"title": "t", "text": "m"}, lane=Lane.BULK, expires_at=until)
    with runtime.db.transaction(tenant(tenant_id)) as session:
        for message in (plain, bulk):
            direct.send_direct(session, runtime, tenant_id, message)
    found = [(row.lane, row.expires_at) for row in rows_of(runtime, tenant_id, Delivery)]
    assert found == [("transactional", None), ("bulk", until)]


def test_a_direct_send_that_is_too_late_already_is_refused(runtime: Runtime, tenant_id: str) -> None:
    message = DirectSend(Channel.IN_APP, ("ada",), {"title": "t"}, expires_at=runtime.clock.now())
    with runtime.db.transaction(tenant(tenant_id)) as session, pytest.raises(InvalidError) as caught:
        direct.send_direct(session, runtime, tenant_id, message)
    assert set(caught.value.fields) == {"expiresAt"}
    assert not rows_of(runtime, tenant_id, Delivery)


def test_one_event_of_a_batch_may_be_too_late(runtime: Runtime, tenant_id: str) -> None:
    now = runtime.clock.now()
    events = [order(), order(expires_at=now), order(expires_at=now + timedelta(hours=1))]
    with runtime.db.transaction(tenant(tenant_id)) as session:
        assert pipeline.faults(session, runtime, tenant_id, events) == {1: {"expiresAt": "lies in the past"}}
    assert not rows_of(runtime, tenant_id, Event)
