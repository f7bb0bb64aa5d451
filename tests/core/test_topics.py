"""Topics: an event goes to everybody on a list once, page by page, whatever happens in between."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest
from sqlalchemy import text

from app.core import pipeline, sweeps, topics
from app.core.deliveries import event_claims, pages
from app.core.deliveries.event_claims import ClaimedEvent
from app.core.outbox import Lane
from app.core.pipeline import EventInput
from app.core.runtime import Runtime
from app.errors import InvalidError, NotFoundError
from app.models import Delivery, Event, Topic, TopicRecipient
from app.tenancy import Purpose, system, tenant
from tests.core.helpers import ORDER, accept, drain, keep_only, rows_of


@pytest.fixture(autouse=True)
def only_the_bell(runtime: Runtime, tenant_id: str) -> None:
    keep_only(runtime, tenant_id, "in_app")


def put(runtime: Runtime, tenant_id: str, name: str, people: Iterable[str]) -> int:
    with runtime.db.transaction(tenant(tenant_id)) as session:
        return topics.add(session, runtime.clock, tenant_id, name, people)


def users(count: int, prefix: str = "user") -> list[str]:
    return [f"{prefix}-{number:05}" for number in range(count)]


def plan_all(runtime: Runtime, lane: Lane = Lane.NORMAL) -> None:
    while pipeline.plan_events(runtime, lane):
        pass


def one_page(runtime: Runtime, tenant_id: str, claimed: Sequence[ClaimedEvent]) -> list[ClaimedEvent]:
    """The next page of each, and nothing sent; returns those that have more."""
    nothing = pages.Choice(of=lambda _rows: (), lane=Lane.NORMAL, lease_seconds=60.0)
    with runtime.db.work(tenant(tenant_id)) as session:
        return pages.plan_page(session, runtime, tenant_id, claimed, nothing).begun


def told(runtime: Runtime, tenant_id: str, event_id: str) -> list[str]:
    return sorted(row.user_id for row in rows_of(runtime, tenant_id, Delivery, event_id=event_id))


def event_of(runtime: Runtime, tenant_id: str, event_id: str) -> Event:
    (event,) = rows_of(runtime, tenant_id, Event, id=event_id)
    assert isinstance(event, Event)
    return event


def test_a_list_is_made_filled_read_in_pages_and_emptied(runtime: Runtime, tenant_id: str) -> None:
    # given people who are put on a list twice
    people = users(25)
    assert put(runtime, tenant_id, "news", people[:20]) == 20
    assert put(runtime, tenant_id, "news", people[10:] + people[10:]) == 5
    with runtime.db.transaction(tenant(tenant_id)) as session:
        # when it is read in pages
        seen, after = [], ""
        for _ in range(3):
            page = topics.list_page(session, tenant_id, "news", after=after, limit=10)
            seen += page.items
            after = page.next_cursor or ""
        # then everybody is there once, and then nobody
        assert seen == people
        assert topics.size(session, tenant_id, ["news"]) == 25
        assert topics.take(session, tenant_id, "news", [*people[:24], "nobody"]) == 24
        assert topics.members(session, tenant_id, "news", limit=5) == people[24:]
        assert not topics.empty(session, tenant_id, "news")
        topics.remove(session, tenant_id, "news")
    assert not rows_of(runtime, tenant_id, Topic) + rows_of(runtime, tenant_id, TopicRecipient)


def test_a_topic_that_is_not_there_and_a_name_that_is_none_are_told_so(runtime: Runtime, tenant_id: str) -> None:
    with runtime.db.transaction(tenant(tenant_id)) as session:
        with pytest.raises(NotFoundError):
            topics.list_page(session, tenant_id, "nothing", limit=1)
        with pytest.raises(InvalidError) as caught:
            topics.put(session, runtime.clock, tenant_id, "no name", {})
        assert set(caught.value.fields) == {"name"}
        assert topics.unknown(session, tenant_id, ["nothing"]) == {"nothing"}


def test_a_person_who_is_named_and_on_two_lists_is_told_once(runtime: Runtime, tenant_id: str) -> None:
    put(runtime, tenant_id, "first", ["ada", "bob"])
    put(runtime, tenant_id, "second", ["bob", "cy"])
    event = EventInput("order.created", data=ORDER, user_ids=("ada", "dan"), topics=("first", "second", "first"))
    (event_id,) = accept(runtime, tenant_id, event)
    plan_all(runtime)
    assert told(runtime, tenant_id, event_id) == ["ada", "bob", "cy", "dan"]


def test_lists_are_planned_in_pages_one_after_the_other(runtime: Runtime, tenant_id: str) -> None:
    # given more people than a page holds, in lists that end within pages and at the edge of one
    put(runtime, tenant_id, "a", users(pages.PAGE, "a"))
    put(runtime, tenant_id, "b", users(130, "b"))
    put(runtime, tenant_id, "empty", ["gone"])
    with runtime.db.transaction(tenant(tenant_id)) as session:
        topics.take(session, tenant_id, "empty", ["gone"])
    put(runtime, tenant_id, "c", users(pages.PAGE * 2 + 1, "c"))
    event = EventInput("order.created", data=ORDER, user_ids=("zoe",), topics=("a", "b", "empty", "c"))
    (event_id,) = accept(runtime, tenant_id, event)
    # when it is planned
    plan_all(runtime)
    drain(runtime)
    # then all have it, and the event knows how many they were
    everybody = [*users(pages.PAGE, "a"), *users(130, "b"), *users(pages.PAGE * 2 + 1, "c"), "zoe"]
    assert told(runtime, tenant_id, event_id) == everybody
    event_row = event_of(runtime, tenant_id, event_id)
    assert (event_row.status, event_row.cursor) == ("planned", len(everybody))
    assert {row.status for row in rows_of(runtime, tenant_id, Delivery)} == {"delivered"}


@pytest.mark.usefixtures("whole_pages")
def test_a_large_event_is_given_back_after_a_page_and_is_no_failure(
    runtime: Runtime, tenant_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given no time for more than a page, a list of three pages and an event that came later
    monkeypatch.setattr(pipeline, "TURN_SECONDS", 0.0)
    put(runtime, tenant_id, "news", users(pages.PAGE * 3))
    (large,) = accept(runtime, tenant_id, EventInput("order.created", data=ORDER, topics=("news",)))
    pipeline.plan_events(runtime, Lane.NORMAL)
    first = event_of(runtime, tenant_id, large)
    (small,) = accept(runtime, tenant_id, EventInput("order.created", data=ORDER, user_ids=("ada",)))
    # when their turns come
    assert (first.status, first.cursor, first.failures) == ("received", pages.PAGE, 0)
    assert first.lease_until is None
    pipeline.plan_events(runtime, Lane.NORMAL)
    # then the small one did not wait for the end of the large one, which goes on
    assert event_of(runtime, tenant_id, small).status == "planned"
    assert event_of(runtime, tenant_id, large).status == "received"
    plan_all(runtime)
    assert told(runtime, tenant_id, large) == users(pages.PAGE * 3)


@pytest.mark.usefixtures("whole_pages")
def test_large_events_take_turns_page_by_page(
    runtime: Runtime, tenant_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "TURN_SECONDS", 0.0)
    put(runtime, tenant_id, "news", users(pages.PAGE * 3))
    ids = accept(runtime, tenant_id, *[EventInput("order.created", data=ORDER, topics=("news",))] * 3)
    come = []
    for _ in range(6):
        pipeline.plan_events(runtime, Lane.NORMAL)
        come.append([event_of(runtime, tenant_id, event_id).cursor // pages.PAGE for event_id in ids])
    assert come == [[1, 0, 0], [1, 1, 0], [1, 1, 1], [2, 1, 1], [2, 2, 1], [2, 2, 2]]


@pytest.mark.usefixtures("whole_pages")
def test_a_worker_that_dies_in_the_middle_is_followed_by_one_that_goes_on(runtime: Runtime, tenant_id: str) -> None:
    # given a list of which one worker planned a page, and a second page that was not committed when it died
    put(runtime, tenant_id, "news", users(pages.PAGE * 2 + 7))
    (event_id,) = accept(runtime, tenant_id, EventInput("order.created", data=ORDER, topics=("news",)))
    now = runtime.clock.now()
    with runtime.db.transaction(tenant(tenant_id)) as session:
        claimed = event_claims.claim(session, Lane.NORMAL, tenant_id, now)
    left = one_page(runtime, tenant_id, claimed)
    assert len(told(runtime, tenant_id, event_id)) == pages.PAGE
    # when its lease is taken back and another goes on, while the dead one still writes its page
    sweeps.release_all_leases(runtime)
    assert event_of(runtime, tenant_id, event_id).failures == 1
    plan_all(runtime)
    late = one_page(runtime, tenant_id, left)
    # then the late page is refused by its fence, everybody is told once, and progress made the failure good
    assert late == []
    assert told(runtime, tenant_id, event_id) == users(pages.PAGE * 2 + 7)
    event = event_of(runtime, tenant_id, event_id)
    assert (event.status, event.cursor, event.failures) == ("planned", pages.PAGE * 2 + 7, 0)


def test_planning_fails_for_good_only_after_failures_without_a_page_between_them(
    runtime: Runtime, tenant_id: str
) -> None:
    put(runtime, tenant_id, "news", users(pages.PAGE * 2))
    (event_id,) = accept(runtime, tenant_id, EventInput("order.created", data=ORDER, topics=("news",)))
    for number in range(event_claims.MOST_FAILURES):
        assert event_of(runtime, tenant_id, event_id).failures == number
        with runtime.db.transaction(tenant(tenant_id)) as session:
            assert event_claims.claim(session, Lane.NORMAL, tenant_id, runtime.clock.now())
        sweeps.release_all_leases(runtime)
    assert event_of(runtime, tenant_id, event_id).status == "failed"


def test_what_went_wrong_once_is_not_starved_by_what_is_always_there(
    runtime: Runtime, tenant_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given an event whose worker was lost, and a large one that is never at its end
    monkeypatch.setattr(pipeline, "TURN_SECONDS", 0.0)
    (lost,) = accept(runtime, tenant_id, EventInput("order.created", data=ORDER, user_ids=("ada",)))
    with runtime.db.transaction(tenant(tenant_id)) as session:
        event_claims.claim(session, Lane.NORMAL, tenant_id, runtime.clock.now())
    sweeps.release_all_leases(runtime)
    put(runtime, tenant_id, "news", users(pages.PAGE * (event_claims.SUSPECTS_EVERY + 2)))
    (large,) = accept(runtime, tenant_id, EventInput("order.created", data=ORDER, topics=("news",)))
    # when there are as many turns as one of them begins with what went wrong
    for _ in range(event_claims.SUSPECTS_EVERY):
        pipeline.plan_events(runtime, Lane.NORMAL)
    # then it had its own
    assert event_of(runtime, tenant_id, lost).status == "planned"
    assert event_of(runtime, tenant_id, large).status == "received"


def test_people_who_join_behind_the_cursor_are_told_and_before_it_are_not(runtime: Runtime, tenant_id: str) -> None:
    put(runtime, tenant_id, "news", users(pages.PAGE, "m"))
    (event_id,) = accept(runtime, tenant_id, EventInput("order.created", data=ORDER, topics=("news",)))
    with runtime.db.transaction(tenant(tenant_id)) as session:
        claimed = event_claims.claim(session, Lane.NORMAL, tenant_id, runtime.clock.now())
    one_page(runtime, tenant_id, claimed)
    put(runtime, tenant_id, "news", ["a-new", "z-new"])
    sweeps.release_all_leases(runtime)
    plan_all(runtime)
    assert told(runtime, tenant_id, event_id) == [*users(pages.PAGE, "m"), "z-new"]


def test_a_topic_that_goes_meanwhile_ends_the_planning(runtime: Runtime, tenant_id: str) -> None:
    put(runtime, tenant_id, "news", ["ada"])
    (event_id,) = accept(runtime, tenant_id, EventInput("order.created", data=ORDER, topics=("news",)))
    with runtime.db.transaction(tenant(tenant_id)) as session:
        topics.remove(session, tenant_id, "news")
    plan_all(runtime)
    assert event_of(runtime, tenant_id, event_id).status == "planned"
    assert told(runtime, tenant_id, event_id) == []


def test_another_tenants_list_of_the_same_name_is_another_list(runtime: Runtime, tenant_id: str) -> None:
    other = "0193d0f0-0000-7000-8000-000000000001"
    with runtime.db.transaction(system(Purpose.MIGRATE)) as session:
        values = f"'{other}', 'Other', '', '{{}}', created_at FROM tenants LIMIT 1"
        session.execute(
            text(f"INSERT INTO tenants (id, name, webhook_secret, preference_defaults, created_at) SELECT {values}")
        )
    put(runtime, other, "news", ["eve"])
    put(runtime, tenant_id, "news", ["ada"])
    (event_id,) = accept(runtime, tenant_id, EventInput("order.created", data=ORDER, topics=("news",)))
    plan_all(runtime)
    assert told(runtime, tenant_id, event_id) == ["ada"]
    assert [row.user_id for row in rows_of(runtime, other, TopicRecipient)] == ["eve"]
