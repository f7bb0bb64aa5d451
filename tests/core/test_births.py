"""What is sent at once is born claimed; what the bell says is written with its planning."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import update

from app.core import pipeline, rules
from app.core.deliveries import pages
from app.core.outbox import Lane
from app.core.pipeline import EventInput
from app.core.runtime import Runtime
from app.models import Attempt, Delivery, DeliveryContent, Event, InAppNotification
from app.tenancy import tenant
from tests.core.helpers import ADA, ORDER, accept, add_endpoint, drain, keep_only, rows_of
from tests.servers.http import Answer, HttpReceiver


def plan(runtime: Runtime) -> None:
    while pipeline.plan_events(runtime, Lane.NORMAL):
        pass


def again(runtime: Runtime, tenant_id: str, **values: Any) -> None:
    """As if a worker had planned the events and died before it said so."""
    with runtime.db.transaction(tenant(tenant_id)) as session:
        session.execute(update(Event).where(Event.tenant_id == tenant_id).values(status="received", cursor=0, **values))


def test_the_bell_has_spoken_when_the_event_is_planned(runtime: Runtime, tenant_id: str) -> None:
    # given
    keep_only(runtime, tenant_id, "in_app")
    accept(runtime, tenant_id, EventInput("order.created", data=ORDER, people=(ADA,)))
    # when
    plan(runtime)
    # then item, words, delivery and attempt are there, and agree
    (delivery,), (item,) = (rows_of(runtime, tenant_id, kind) for kind in (Delivery, InAppNotification))
    (words,), (attempt,) = (rows_of(runtime, tenant_id, kind) for kind in (DeliveryContent, Attempt))
    assert (delivery.status, delivery.attempt, delivery.tries, delivery.provider) == ("delivered", 1, 1, "in_app")
    assert delivery.next_attempt_at is None
    assert delivery.delivered_at == delivery.sent_at is not None
    assert item.id == words.id == delivery.id == attempt.delivery_id
    assert (item.user_id, item.title) == ("ada", words.parts["title"])
    assert (attempt.number, attempt.outcome, attempt.provider) == (1, "accepted", "in_app")
    assert attempt.finished_at is not None


def test_planned_again_the_bell_says_nothing_twice(runtime: Runtime, tenant_id: str) -> None:
    keep_only(runtime, tenant_id, "in_app")
    accept(runtime, tenant_id, EventInput("order.created", data=ORDER, people=(ADA,)))
    plan(runtime)
    again(runtime, tenant_id)
    plan(runtime)
    drain(runtime)
    assert [len(rows_of(runtime, tenant_id, kind)) for kind in (Delivery, InAppNotification, Attempt)] == [1, 1, 1]


def test_an_event_that_went_wrong_before_is_planned_with_care(runtime: Runtime, tenant_id: str) -> None:
    """Whatever killed the worker that planned it: each delivery is claimed for itself, where it harms no other."""
    keep_only(runtime, tenant_id, "in_app")
    accept(runtime, tenant_id, EventInput("order.created", data=ORDER, people=(ADA,)))
    again(runtime, tenant_id, failures=1)
    plan(runtime)
    (delivery,) = rows_of(runtime, tenant_id, Delivery)
    assert (delivery.status, delivery.attempt) == ("pending", 0)
    drain(runtime)
    assert [item.user_id for item in rows_of(runtime, tenant_id, InAppNotification)] == ["ada"]


def test_words_that_cannot_be_found_fail_their_own_delivery_only(runtime: Runtime, tenant_id: str) -> None:
    keep_only(runtime, tenant_id, "in_app")
    with runtime.db.transaction(tenant(tenant_id)) as session:
        fields = {"event_type": "order.created", "category": "orders"}
        actions = [{"channel": "in_app", "template": "none.such"}]
        rules.create(session, runtime.clock, tenant_id, fields | {"name": "b", "actions": actions})
    accept(runtime, tenant_id, EventInput("order.created", data=ORDER, people=(ADA,)))
    plan(runtime)
    drain(runtime)
    found = {row.template: (row.status, row.reason) for row in rows_of(runtime, tenant_id, Delivery)}
    assert found == {"order.created": ("delivered", None), "none.such": ("failed", "template_missing")}


@pytest.mark.usefixtures("whole_pages")
def test_a_page_of_many_is_told_whole_and_a_fault_leaves_nothing_of_it(
    runtime: Runtime, tenant_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_only(runtime, tenant_id, "in_app")
    monkeypatch.setattr(pages, "PAGE", 60)
    accept(runtime, tenant_id, EventInput("order.created", data=ORDER, user_ids=tuple(f"u{n}" for n in range(150))))
    plan(runtime)
    assert len(rows_of(runtime, tenant_id, InAppNotification)) == 150
    assert {row.status for row in rows_of(runtime, tenant_id, Delivery)} == {"delivered"}
    assert len(rows_of(runtime, tenant_id, Attempt)) == 150


def test_what_is_sent_at_once_is_born_with_its_first_attempt(runtime: Runtime, tenant_id: str) -> None:
    with HttpReceiver() as receiver:
        receiver.default = Answer(500)
        add_endpoint(runtime, tenant_id, receiver.url("/hook"), ("thing.done",))
        accept(runtime, tenant_id, EventInput("thing.done", data=ORDER))
        plan(runtime)
        # then the first try is on record, and the next one is due
        (delivery,) = rows_of(runtime, tenant_id, Delivery)
        assert (delivery.status, delivery.attempt, delivery.tries, delivery.lease_until) == ("pending", 1, 1, None)
        assert [row.outcome for row in rows_of(runtime, tenant_id, Attempt)] == ["retryable"]
        # and says the same words
        first, words = receiver.ledger[0].body, rows_of(runtime, tenant_id, DeliveryContent)[0].parts["payload"]
        assert first == words.encode()


def test_who_dies_with_a_newborn_claim_leaves_a_lease_that_ends(runtime: Runtime, tenant_id: str) -> None:
    add_endpoint(runtime, tenant_id, "http://127.0.0.1:9/hook", ("thing.done",))
    accept(runtime, tenant_id, EventInput("thing.done", data=ORDER))

    def die(*_args: object) -> None:
        raise KeyboardInterrupt

    runtime.channels.provider_for = die  # type: ignore[assignment, method-assign]
    with pytest.raises(KeyboardInterrupt):
        plan(runtime)
    (delivery,) = rows_of(runtime, tenant_id, Delivery)
    assert (delivery.status, delivery.attempt) == ("sending", 1)
    assert delivery.lease_until > runtime.clock.now()
    assert [row.outcome for row in rows_of(runtime, tenant_id, Attempt)] == [None]
