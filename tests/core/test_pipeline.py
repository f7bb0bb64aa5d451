"""The straight line, in both shapes: an event goes in, the right messages come out, every delivery is on record."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import update

from app.config import Settings
from app.core import direct, pipeline
from app.core.direct import DirectSend
from app.core.outbox import Lane
from app.core.pipeline import EventInput
from app.core.runtime import Runtime
from app.errors import InvalidError
from app.models import Attempt, Delivery, Event, InAppNotification, Rule, WebhookAttempt
from app.tenancy import tenant
from providers.contract import Channel
from tests.core.helpers import ADA, ORDER, accept, add_endpoint, drain, keep_only, post_direct, rows_of
from tests.servers.http import Answer, HttpReceiver
from tests.servers.smtp import SmtpServer
from tests.servers.twilio import TwilioServer


@pytest.fixture
def smtp() -> Iterator[SmtpServer]:
    with SmtpServer() as server:
        yield server


@pytest.fixture
def twilio() -> Iterator[TwilioServer]:
    with TwilioServer() as server:
        yield server


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with HttpReceiver() as server:
        yield server


@pytest.fixture
def make_settings(smtp: SmtpServer, twilio: TwilioServer) -> Callable[..., Settings]:
    return lambda **values: Settings(
        **values,
        email_host="127.0.0.1",
        email_port=smtp.port,
        twilio_account_sid=twilio.account_sid,
        twilio_auth_token=twilio.auth_token,
        twilio_phone_number="+15005550001",
        twilio_api_url=twilio.base_url,
    )


@pytest.fixture
def endpoint(runtime: Runtime, tenant_id: str, receiver: HttpReceiver) -> str:
    return add_endpoint(runtime, tenant_id, receiver.url("/hook"))


def by_channel(deliveries: list[Delivery]) -> dict[str, Delivery]:
    return {delivery.channel: delivery for delivery in deliveries}


def test_one_event_is_delivered_on_all_four_channels(
    runtime: Runtime, tenant_id: str, endpoint: str, smtp: SmtpServer, twilio: TwilioServer, receiver: HttpReceiver
) -> None:
    # given a seeded tenant, a person with all addresses and a subscriber
    event = EventInput("order.created", data=ORDER, people=(ADA,))
    # when the event is posted and a worker plans it
    (event_id,) = accept(runtime, tenant_id, event)
    assert pipeline.plan_events(runtime, Lane.NORMAL) == 1
    # then each channel has it, and its delivery is on record with one attempt
    (mail,) = smtp.wait_for(1)
    (sms,) = twilio.wait_for(1)
    (hook,) = receiver.wait_for(1)
    assert mail.recipients == ("ada@example.com",)
    assert "A-1001" in mail.content.decode()
    assert "A-1001" in sms.body
    deliveries = by_channel(rows_of(runtime, tenant_id, Delivery, event_id=event_id))
    assert {name: row.status for name, row in deliveries.items()} == {
        "email": "sent",
        "sms": "sent",
        "webhook": "delivered",
        "in_app": "delivered",
    }
    assert hook.headers["webhook-id"] == deliveries["webhook"].id
    assert {row.attempt for row in deliveries.values()} == {1}
    assert all(row.sent_at and row.provider for row in deliveries.values())
    attempts = rows_of(runtime, tenant_id, Attempt)
    assert [attempt.outcome for attempt in attempts] == ["accepted"] * 4
    (log,) = rows_of(runtime, tenant_id, WebhookAttempt)
    assert (log.status_code, log.configuration_id) == (200, endpoint)
    (bell,) = rows_of(runtime, tenant_id, InAppNotification)
    assert (bell.user_id, bell.id) == ("ada", deliveries["in_app"].id)
    (stored,) = rows_of(runtime, tenant_id, Event)
    assert (stored.status, stored.cursor) == ("planned", 1)


def test_a_missing_address_and_a_missing_endpoint_are_skips_with_their_reason(runtime: Runtime, tenant_id: str) -> None:
    # given a person nobody knows, and no subscriber
    (event_id,) = accept(runtime, tenant_id, EventInput("order.created", data=ORDER, user_ids=("ghost",)))
    # when
    pipeline.plan_events(runtime, Lane.NORMAL)
    # then the bell has it, and every other channel says why not
    deliveries = by_channel(rows_of(runtime, tenant_id, Delivery, event_id=event_id))
    assert {name: (row.status, row.reason) for name, row in deliveries.items()} == {
        "email": ("skipped", "no_address"),
        "sms": ("skipped", "no_address"),
        "webhook": ("skipped", "no_endpoint"),
        "in_app": ("delivered", None),
    }


def test_a_test_key_plans_everything_and_sends_nothing(
    runtime: Runtime, tenant_id: str, endpoint: str, smtp: SmtpServer, receiver: HttpReceiver
) -> None:
    accept(runtime, tenant_id, EventInput("order.created", data=ORDER, people=(ADA,)), test=True)
    pipeline.plan_events(runtime, Lane.NORMAL)
    deliveries = rows_of(runtime, tenant_id, Delivery)
    assert {(row.status, row.reason) for row in deliveries} == {("skipped", "test_key")}
    assert len(deliveries) == 4
    assert not receiver.ledger


def test_planning_twice_makes_no_second_delivery(runtime: Runtime, tenant_id: str, endpoint: str) -> None:
    # given an event that is planned
    (event_id,) = accept(runtime, tenant_id, EventInput("order.created", data=ORDER, people=(ADA,)))
    pipeline.plan_events(runtime, Lane.NORMAL)
    before = [row.id for row in rows_of(runtime, tenant_id, Delivery)]
    # when it is planned again, as after a crash before the commit was seen
    with runtime.db.transaction(tenant(tenant_id)) as session:
        mine = update(Event).where(Event.tenant_id == tenant_id, Event.id == event_id)
        session.execute(mine.values(status="received", cursor=0, attempt=0))
    assert pipeline.plan_events(runtime, Lane.NORMAL) == 1
    # then nothing is added
    assert [row.id for row in rows_of(runtime, tenant_id, Delivery)] == before
    assert len(rows_of(runtime, tenant_id, Attempt)) == len(before)


def test_a_fan_out_of_a_thousand_is_planned_in_pages_and_all_delivered(runtime: Runtime, tenant_id: str) -> None:
    # given a rule for the bell alone
    keep_only(runtime, tenant_id, "in_app")
    people = tuple(f"user-{number}" for number in range(1200))
    (event_id,) = accept(runtime, tenant_id, EventInput("order.created", data=ORDER, user_ids=people))
    # when one worker does all the work
    while pipeline.plan_events(runtime, Lane.NORMAL):
        pass
    drain(runtime)
    # then everybody has it once
    delivered = rows_of(runtime, tenant_id, Delivery, event_id=event_id, status="delivered")
    assert sorted(row.user_id for row in delivered) == sorted(people)
    assert len(rows_of(runtime, tenant_id, InAppNotification)) == 1200


def test_a_rule_that_cannot_be_judged_harms_no_other(runtime: Runtime, tenant_id: str) -> None:
    # given the seeded rule, and one whose condition speaks of what the event lacks
    keep_only(runtime, tenant_id, "in_app")
    now = runtime.clock.now()
    action = {"channel": "in_app", "template": "order.created"}
    broken = Rule(
        tenant_id=tenant_id,
        name="broken",
        event_type="order.*",
        condition="data.missing > 3",
        priority=9,
        enabled=True,
        category="orders",
        critical=False,
        actions=[action],
        created_at=now,
        updated_at=now,
    )
    with runtime.db.transaction(tenant(tenant_id)) as session:
        session.add(broken)
    # when
    (event_id,) = accept(runtime, tenant_id, EventInput("order.created", data=ORDER, user_ids=("ada",)))
    pipeline.plan_events(runtime, Lane.NORMAL)
    # then the other rule has told the person, and the event says what was passed over
    assert len(rows_of(runtime, tenant_id, Delivery, channel="in_app")) == 1
    (event,) = rows_of(runtime, tenant_id, Event, id=event_id)
    (note,) = event.notes
    assert note["count"] == 1
    assert "missing" in note["reason"]


def test_a_direct_send_makes_one_delivery_for_each_address_and_copies_ride_on_the_first(
    runtime: Runtime, tenant_id: str, smtp: SmtpServer
) -> None:
    message = DirectSend(
        Channel.EMAIL,
        ("a@example.com", "b@example.com"),
        {"subject": "Hello", "text": "Words", "cc": ["c@example.com"]},
    )
    with runtime.db.transaction(tenant(tenant_id)) as session:
        ids = direct.send_direct(session, runtime, tenant_id, message)
    drain(runtime)
    mails = smtp.wait_for(2)
    assert sorted(mail.recipients for mail in mails) == [("a@example.com", "c@example.com"), ("b@example.com",)]
    assert {row.id for row in rows_of(runtime, tenant_id, Delivery, status="sent")} == set(ids)


def test_a_subscriber_without_a_rule_gets_the_event_once_by_type(
    runtime: Runtime, tenant_id: str, receiver: HttpReceiver
) -> None:
    # given one who wants invoices and one who wants something else
    add_endpoint(runtime, tenant_id, receiver.url("/invoices"), ("invoice.*",))
    add_endpoint(runtime, tenant_id, receiver.url("/others"), ("order.created",))
    receiver.default = Answer(204)
    # when
    accept(runtime, tenant_id, EventInput("invoice.paid", data={"number": 7}))
    pipeline.plan_events(runtime, Lane.NORMAL)
    # then
    (got,) = receiver.wait_for(1)
    assert got.path == "/invoices"
    assert b'"type":"invoice.paid"' in got.body.replace(b" ", b"")


def test_html_written_out_is_styled_and_gets_a_text_part_like_a_templates(
    runtime: Runtime, tenant_id: str, smtp: SmtpServer
) -> None:
    html = "<style>p{color:red}</style><p>Hi <a href='https://a.example/x'>there</a></p>"
    post_direct(runtime, tenant_id, Channel.EMAIL, "a@example.com", subject="Hello", html=html)
    drain(runtime)
    (mail,) = smtp.wait_for(1)
    plain, styled = mail.message.iter_parts()
    assert "https://a.example/x" in plain.get_content()
    assert 'style="color: red' in styled.get_content()


def test_html_that_is_too_deep_is_refused_by_name(runtime: Runtime, tenant_id: str) -> None:
    html = "<style>p{color:red}</style>" + "<div>" * 20_000
    with pytest.raises(InvalidError) as caught:
        post_direct(runtime, tenant_id, Channel.EMAIL, "a@example.com", subject="Hello", html=html)
    assert set(caught.value.fields) == {"html"}
    assert not rows_of(runtime, tenant_id, Delivery)


def add_rule(runtime: Runtime, tenant_id: str, event_type: str, **fields: Any) -> None:
    now = runtime.clock.now()
    values: dict[str, Any] = {"name": "added", "priority": 0, "enabled": True, "category": "orders", "critical": False}
    values |= {"created_at": now, "updated_at": now, "condition": None} | fields
    with runtime.db.transaction(tenant(tenant_id)) as session:
        session.add(Rule(tenant_id=tenant_id, event_type=event_type, **values))


@pytest.mark.parametrize("people", [(), ("ada",), ("ada", "bob", "eve")])
@pytest.mark.usefixtures("whole_pages")
def test_an_address_of_the_rules_own_is_told_once_however_many_people_the_event_has(
    runtime: Runtime, tenant_id: str, smtp: SmtpServer, people: tuple[str, ...]
) -> None:
    action = {"channel": "email", "template": "order.created", "to": "ops@example.com"}
    add_rule(runtime, tenant_id, "stock.low", actions=[action])
    accept(runtime, tenant_id, EventInput("stock.low", data=ORDER, user_ids=people))
    pipeline.plan_events(runtime, Lane.NORMAL)
    (mail,) = smtp.wait_for(1)
    (made,) = rows_of(runtime, tenant_id, Delivery)
    assert mail.recipients == (made.address,) == ("ops@example.com",)


def test_an_event_that_nobody_wants_says_so(runtime: Runtime, tenant_id: str) -> None:
    (event_id,) = accept(runtime, tenant_id, EventInput("nobody.cares", user_ids=("ada",)))
    pipeline.plan_events(runtime, Lane.NORMAL)
    (event,) = rows_of(runtime, tenant_id, Event, id=event_id)
    assert event.status == "planned"
    assert [note["ruleId"] for note in event.notes] == [None]
