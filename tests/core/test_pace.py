"""Planning keeps to a pace: whatever rules, people and words cost, no transaction is long, and no event is lost."""

from __future__ import annotations

import math
import time
from collections import Counter
from typing import Any

import pytest
from sqlalchemy import update

from app.core import pipeline, rules, topics
from app.core.deliveries import births, event_claims, pages, plan
from app.core.outbox import Lane
from app.core.pipeline import EventInput
from app.core.runtime import Runtime
from app.core.templating import HurryError, compile_message
from app.models import Delivery, DeliveryContent, Event, InAppNotification
from app.tenancy import tenant
from providers.contract import Accepted, Channel, OutboundMessage
from tests.core.helpers import ADA, ORDER, accept, drain, keep_only, rows_of
from tests.core.scripted import Scripted, with_providers

IN_APP = {"channel": "in_app", "template": "user.registered"}
PEOPLE = tuple(f"user-{number}" for number in range(5))


def add_rule(runtime: Runtime, tenant_id: str, event_type: str = "news", **fields: Any) -> None:
    given = {"event_type": event_type, "category": "news", "actions": [IN_APP], **fields}
    with runtime.db.transaction(tenant(tenant_id)) as session:
        rules.create(session, runtime.clock, tenant_id, given)


def put(runtime: Runtime, tenant_id: str, name: str, *user_ids: str) -> None:
    with runtime.db.transaction(tenant(tenant_id)) as session:
        topics.add(session, runtime.clock, tenant_id, name, user_ids)


def plan_all(runtime: Runtime) -> int:
    """Returns how many claims it took."""
    claims = 0
    while pipeline.plan_events(runtime, Lane.NORMAL):
        claims += 1
    return claims


def one_page(runtime: Runtime, tenant_id: str) -> pages.Planned:
    nothing = pages.Choice(of=lambda _rows: (), lane=Lane.NORMAL, lease_seconds=60.0)
    with runtime.db.transaction(tenant(tenant_id)) as session:
        claimed = event_claims.claim(session, Lane.NORMAL, tenant_id, runtime.clock.now())
        return pages.plan_page(session, runtime, tenant_id, claimed, nothing)


def told(runtime: Runtime, tenant_id: str, event_id: str) -> Counter[str]:
    return Counter(row.user_id for row in rows_of(runtime, tenant_id, Delivery, event_id=event_id))


@pytest.mark.parametrize(("limit", "value"), [("PLAN_SECONDS", -1.0), ("MOST_ROWS", 2)])
def test_an_event_that_is_too_much_for_one_transaction_is_planned_in_several(
    runtime: Runtime, tenant_id: str, monkeypatch: pytest.MonkeyPatch, limit: str, value: float
) -> None:
    # given an event to people and two lists, which overlap, and next to no time or room
    add_rule(runtime, tenant_id)
    put(runtime, tenant_id, "first", "user-1", "zoe", "yan", "xia")
    put(runtime, tenant_id, "second", "zoe", "will", "vic")
    monkeypatch.setattr(plan, limit, value)
    monkeypatch.setattr(pipeline, "TURN_SECONDS", 0.0)
    (event_id,) = accept(runtime, tenant_id, EventInput("news", user_ids=PEOPLE, topics=("first", "second")))
    # when
    claims = plan_all(runtime)
    # then it took several, nobody was left out or doubled, and nothing went wrong
    assert claims > 3
    everybody = {*PEOPLE, "zoe", "yan", "xia", "will", "vic"}
    assert told(runtime, tenant_id, event_id) == dict.fromkeys(everybody, 1)
    (event,) = rows_of(runtime, tenant_id, Event)
    assert (event.status, event.failures, event.cursor) == ("planned", 0, 12)


@pytest.fixture
def four_events(runtime: Runtime, tenant_id: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of four events of five people each, where a page has eight."""
    add_rule(runtime, tenant_id)
    monkeypatch.setattr(pages, "PAGE", 8)
    return accept(runtime, tenant_id, *[EventInput("news", user_ids=PEOPLE)] * 4)


def test_events_that_are_too_many_for_one_transaction_are_left_for_the_next(
    runtime: Runtime, tenant_id: str, four_events: list[str]
) -> None:
    # when
    plan_all(runtime)
    # then
    assert [told(runtime, tenant_id, event_id) for event_id in four_events] == [dict.fromkeys(PEOPLE, 1)] * 4
    assert {(event.status, event.failures) for event in rows_of(runtime, tenant_id, Event)} == {("planned", 0)}


@pytest.mark.usefixtures("whole_pages")
def test_one_transaction_holds_the_people_of_about_one_page(
    runtime: Runtime, tenant_id: str, four_events: list[str]
) -> None:
    planned = one_page(runtime, tenant_id)
    assert [event.id for event in planned.fresh] == four_events[2:]
    assert not planned.begun


@pytest.mark.usefixtures("whole_pages")
def test_what_went_wrong_is_tried_with_fewer_people(
    runtime: Runtime, tenant_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given an event whose planning went wrong
    add_rule(runtime, tenant_id)
    monkeypatch.setattr(pages, "PAGE", 8)
    (event_id,) = accept(runtime, tenant_id, EventInput("news", user_ids=PEOPLE))
    with runtime.db.transaction(tenant(tenant_id)) as session:
        now = runtime.clock.now()
        (claimed,) = event_claims.claim(session, Lane.NORMAL, tenant_id, now)
        event_claims.put_back(session, claimed, now, "Timeout")
        session.execute(update(Event).where(Event.tenant_id == tenant_id).values(next_attempt_at=Event.created_at))
    # when
    (left,) = one_page(runtime, tenant_id).begun
    # then it has come further
    assert left.cursor == 2
    assert told(runtime, tenant_id, event_id) == {"user-0": 1, "user-1": 1}


def test_conditions_that_take_too_long_are_false_with_the_reason(
    runtime: Runtime, tenant_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_rule(runtime, tenant_id, condition="recipient.userId != ''")
    add_rule(runtime, tenant_id)
    monkeypatch.setattr(plan, "JUDGING_SECONDS", -1.0)
    accept(runtime, tenant_id, EventInput("news", user_ids=("ada",)))
    plan_all(runtime)
    (event,) = rows_of(runtime, tenant_id, Event)
    assert event.status == "planned"
    assert [note["reason"] for note in event.notes] == ["the conditions of the rules took more than 8 seconds"]
    assert len(rows_of(runtime, tenant_id, Delivery)) == 1


@pytest.mark.usefixtures("whole_pages")
def test_what_is_left_is_given_back_before_anything_is_sent(runtime: Runtime, tenant_id: str) -> None:
    # given an event to one person, an event to a list, and a receiver that takes its time: it sees how events stand
    keep_only(runtime, tenant_id, "email")
    add_rule(runtime, tenant_id)
    put(runtime, tenant_id, "all", *(f"user-{number:04}" for number in range(pages.PAGE * 3)))
    seen: list[dict[str, str]] = []

    def look(_message: OutboundMessage) -> Accepted:
        seen.append({event.event_type: event.status for event in rows_of(runtime, tenant_id, Event)})
        return Accepted("id")

    house = with_providers(runtime, Scripted(Channel.EMAIL, look))
    accept(house, tenant_id, EventInput("order.created", ORDER, people=(ADA,)), EventInput("news", topics=("all",)))
    # when
    pipeline.plan_events(house, Lane.NORMAL)
    # then the large one had a page, and no lease of it runs out meanwhile
    assert seen == [{"order.created": "planned", "news": "received"}]
    (large,) = rows_of(runtime, tenant_id, Event, event_type="news")
    assert (large.cursor, large.failures) == (pages.PAGE, 0)


def test_words_that_take_too_long_wait_for_the_usual_road(
    runtime: Runtime, tenant_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given no time for words while planning
    add_rule(runtime, tenant_id)
    monkeypatch.setattr(births, "TELLING_SECONDS", -1.0)
    accept(runtime, tenant_id, EventInput("news", user_ids=("ada",)))
    with runtime.db.transaction(tenant(tenant_id)) as session:
        now = runtime.clock.now()
        claimed = event_claims.claim(session, Lane.NORMAL, tenant_id, now)
        nothing = pages.Choice(of=lambda _rows: (), lane=Lane.NORMAL, lease_seconds=60.0)
        # when
        pages.plan_page(session, runtime, tenant_id, claimed, nothing)
    # then
    assert [row.status for row in rows_of(runtime, tenant_id, Delivery)] == ["pending"]
    assert not rows_of(runtime, tenant_id, DeliveryContent)
    drain(runtime)
    assert [row.status for row in rows_of(runtime, tenant_id, Delivery)] == ["delivered"]
    assert len(rows_of(runtime, tenant_id, InAppNotification)) == 1


def test_a_rendering_in_a_hurry_stops_in_the_middle_and_blames_nobody() -> None:
    # given words that take a while
    numbers = list(range(600))
    body = "{{#each n}}{{#each ../n}}{{this}}{{/each}}{{/each}}"
    message = compile_message("in_app", {"title": "t", "text": body}, {})
    # when, then
    with pytest.raises(HurryError):
        message.render({"n": numbers}, until=time.monotonic())
    assert message.render({"n": [1, 2]}, until=math.inf)["text"] == "1212"
