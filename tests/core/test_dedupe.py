"""Dedupe: the same business event within its window is one event, and the database says which."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import replace
from datetime import timedelta
from typing import Any

from sqlalchemy import update

from app.core import dedupes, pipeline
from app.core.dedupes import Dedupe
from app.core.outbox import Lane
from app.core.pipeline import Accepted, EventInput
from app.core.runtime import Runtime
from app.models import Delivery, Event, EventDedupe, Recipient
from app.tenancy import Purpose, system, tenant
from tests.core.helpers import rows_of

PAID = EventInput("invoice.paid", data={"n": 1}, dedupe=Dedupe("invoice-7", 3600))


def post(runtime: Runtime, tenant_id: str, *events: EventInput, test: bool = False) -> list[Accepted]:
    with runtime.db.transaction(tenant(tenant_id)) as session:
        return pipeline.accept_events(session, runtime, tenant_id, events, test=test)


def known(runtime: Runtime, tenant_id: str, event_id: str) -> dedupes.Record | None:
    (event,) = rows_of(runtime, tenant_id, Event, id=event_id)
    with runtime.db.transaction(tenant(tenant_id), read_only=True) as session:
        return dedupes.record(session, event)


def let_the_window_pass(runtime: Runtime, tenant_id: str) -> None:
    with runtime.db.transaction(tenant(tenant_id)) as session:
        mine = update(EventDedupe).where(EventDedupe.tenant_id == tenant_id)
        session.execute(mine.values(expires_at=EventDedupe.created_at))


def test_the_second_post_is_the_first_event_and_is_on_record(runtime: Runtime, tenant_id: str) -> None:
    # given an event, and the same again with other data and people
    (first,) = post(runtime, tenant_id, PAID)
    person = {"user_id": "ada", "name": "Ada"}
    again = EventInput("invoice.paid", data={"n": 2}, people=(person,), dedupe=Dedupe("invoice-7", 60))
    # when it is posted twice more
    second, third = post(runtime, tenant_id, again)[0], post(runtime, tenant_id, again)[0]
    # then they are the first, of the others nothing is kept, and their number is known
    assert (first.duplicate, second, third) == (False, Accepted(first.id, True), Accepted(first.id, True))
    (event,) = rows_of(runtime, tenant_id, Event)
    assert (event.id, event.data) == (first.id, {"n": 1})
    assert not rows_of(runtime, tenant_id, Recipient)
    record = known(runtime, tenant_id, first.id)
    assert record is not None
    assert (record.key, record.duplicates) == ("invoice-7", 2)
    assert record.until is not None
    assert record.last_duplicate_at is not None
    assert (record.until - rows_of(runtime, tenant_id, EventDedupe)[0].created_at).total_seconds() == 3600


def test_nothing_is_planned_for_a_duplicate(runtime: Runtime, tenant_id: str) -> None:
    order = EventInput("order.created", user_ids=("ada",), dedupe=Dedupe("order-1", 60))
    post(runtime, tenant_id, order)
    pipeline.plan_events(runtime, Lane.NORMAL)
    before = [row.id for row in rows_of(runtime, tenant_id, Delivery)]
    post(runtime, tenant_id, order)
    assert pipeline.plan_events(runtime, Lane.NORMAL) == 0
    assert [row.id for row in rows_of(runtime, tenant_id, Delivery)] == before


def test_twice_in_one_batch_is_one_and_events_without_a_key_are_all_new(runtime: Runtime, tenant_id: str) -> None:
    plain = EventInput("invoice.paid")
    other = EventInput("invoice.paid", dedupe=Dedupe("invoice-8", 60))
    accepted = post(runtime, tenant_id, PAID, plain, PAID, other, plain, PAID)
    assert [found.duplicate for found in accepted] == [False, False, True, False, False, True]
    assert {accepted[index].id for index in (0, 2, 5)} == {accepted[0].id}
    assert len(rows_of(runtime, tenant_id, Event)) == 4
    record = known(runtime, tenant_id, accepted[0].id)
    assert record is not None
    assert record.duplicates == 2
    # and once more in a batch of their own
    assert {found.id for found in post(runtime, tenant_id, PAID, PAID)} == {accepted[0].id}
    record = known(runtime, tenant_id, accepted[0].id)
    assert record is not None
    assert record.duplicates == 4


def test_after_the_window_the_next_event_takes_the_key(runtime: Runtime, tenant_id: str) -> None:
    (first,) = post(runtime, tenant_id, PAID)
    post(runtime, tenant_id, PAID)
    let_the_window_pass(runtime, tenant_id)
    (second,) = post(runtime, tenant_id, PAID)
    (third,) = post(runtime, tenant_id, PAID)
    assert (second.duplicate, third) == (False, Accepted(second.id, True))
    assert second.id != first.id
    assert known(runtime, tenant_id, first.id) == dedupes.Record("invoice-7")
    newer = known(runtime, tenant_id, second.id)
    assert newer is not None
    assert newer.duplicates == 1


def test_what_a_test_key_posts_stands_in_nobodys_way(runtime: Runtime, tenant_id: str) -> None:
    (tried,) = post(runtime, tenant_id, PAID, test=True)
    (real,) = post(runtime, tenant_id, PAID)
    assert (tried.duplicate, real.duplicate) == (False, False)
    assert post(runtime, tenant_id, PAID, test=True) == [Accepted(tried.id, True)]
    record = known(runtime, tenant_id, tried.id)
    assert record is not None
    assert record.key == "invoice-7"


def test_a_post_that_is_rolled_back_leaves_the_key_free(runtime: Runtime, tenant_id: str) -> None:
    with contextlib.suppress(ZeroDivisionError), runtime.db.transaction(tenant(tenant_id)) as session:
        pipeline.accept_events(session, runtime, tenant_id, [PAID])
        raise ZeroDivisionError
    assert not post(runtime, tenant_id, PAID)[0].duplicate


def test_of_many_at_once_in_other_orders_one_is_made_of_each_key(runtime: Runtime, tenant_id: str) -> None:
    # given batches of the same keys, half of them the other way round
    events = [EventInput("invoice.paid", dedupe=Dedupe(f"invoice-{n}", 60)) for n in range(20)]
    found: list[list[Accepted]] = []
    barrier = threading.Barrier(8)

    def one(turned: bool) -> None:
        barrier.wait()
        accepted = post(runtime, tenant_id, *(events[::-1] if turned else events))
        found.append(accepted[::-1] if turned else accepted)

    threads = [threading.Thread(target=one, args=(bool(n % 2),)) for n in range(8)]
    # when they come at the same moment
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # then nobody locks up, and all speak of the same events
    assert len(found) == 8
    ids = {tuple(item.id for item in batch) for batch in found}
    assert len(ids) == 1
    assert {row.id for row in rows_of(runtime, tenant_id, Event)} == set(*ids)
    assert sum(not item.duplicate for batch in found for item in batch) == 20
    assert {row.duplicates for row in rows_of(runtime, tenant_id, EventDedupe)} == {7}


def test_keys_are_forgotten_long_after_their_window(runtime: Runtime, tenant_id: str) -> None:
    post(runtime, tenant_id, PAID)
    (row,) = rows_of(runtime, tenant_id, EventDedupe)
    times: dict[Any, int] = {row.expires_at: 1, row.expires_at + dedupes.KEPT * 2: 0}
    for now, left in times.items():
        with runtime.db.transaction(system(Purpose.SWEEP)) as session:
            dedupes.prune(session, now)
        assert len(rows_of(runtime, tenant_id, EventDedupe)) == left


def test_an_event_that_failed_in_planning_is_nobodys_first(runtime: Runtime, tenant_id: str) -> None:
    # given an event that nobody was told of
    (first,) = post(runtime, tenant_id, PAID)
    with runtime.db.transaction(tenant(tenant_id)) as session:
        session.execute(update(Event).where(Event.tenant_id == tenant_id).values(status="failed"))
    # when it is posted again, twice
    (second,), (third,) = post(runtime, tenant_id, PAID), post(runtime, tenant_id, PAID)
    # then it is a new event, and the first of its own
    assert (second.duplicate, third) == (False, Accepted(second.id, True))
    assert second.id != first.id
    assert known(runtime, tenant_id, first.id) == dedupes.Record("invoice-7")


def test_no_key_stands_for_an_event_that_is_no_longer_kept(runtime: Runtime, tenant_id: str) -> None:
    # given events that are kept for two days, a window of thirty, and one that was posted three days ago
    house = replace(runtime, settings=replace(runtime.settings, keep_events_days=2))
    item = EventInput("invoice.paid", dedupe=Dedupe("k", dedupes.MAX_WINDOW))
    (first,) = post(house, tenant_id, item)
    (row,) = rows_of(runtime, tenant_id, EventDedupe)
    assert row.expires_at - row.created_at == timedelta(days=2)
    # also when they were kept for longer then
    with runtime.db.transaction(tenant(tenant_id)) as session:
        mine = update(EventDedupe).where(EventDedupe.tenant_id == tenant_id)
        past, later = row.created_at - timedelta(days=3), row.created_at + timedelta(days=27)
        session.execute(mine.values(created_at=past, expires_at=later))
    # when, then
    assert post(runtime, tenant_id, item) == [Accepted(first.id, True)]
    (again,) = post(house, tenant_id, item)
    assert (again.duplicate, again.id == first.id) == (False, False)
