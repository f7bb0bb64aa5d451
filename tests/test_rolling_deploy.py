"""Old and new code run together over one migration: what the previous version says to its database still holds.

The words of the previous version stand in `rolling/previous.json`; they are said by the application's ordinary role.
Only production has two versions at once: the embedded shape is one process under a lock.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from app.config import Settings
from app.core import sweeps
from app.core.deliveries import send
from app.core.outbox import Lane
from app.core.pipeline import plan_events
from app.core.runtime import Runtime
from app.models import Attempt, Delivery, Event
from tests.core.helpers import rows_of
from tests.rolling.a_day import ADA, AUTH, ORDER
from tests.rolling.previous import Previous
from tests.servers.http import HttpReceiver
from tests.servers.smtp import SmtpServer
from tests.servers.twilio import TwilioServer

FINAL = {"sent", "delivered", "bounced", "failed", "skipped", "canceled"}


@pytest.fixture
def shape() -> str:
    return "production"


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
def previous(receiver: HttpReceiver) -> Previous:
    return Previous(receiver.url(""))


@pytest.fixture
def old(settings: Settings) -> Iterator[psycopg.Connection[Any]]:
    """A connection of the previous version: the ordinary role, on a database that is migrated to the present one."""
    with psycopg.connect(settings.database_url, autocommit=True, options="-c timezone=UTC") as connection:
        yield connection


@pytest.fixture
def day(previous: Previous, old: psycopg.Connection[Any]) -> list[str]:
    """The whole day is said again: where it went otherwise than when it was recorded."""
    return [f"{chapter}: {what}" for chapter in previous.chapters for what in previous.replay(old, chapter)]


@pytest.fixture
def tenant_id(previous: Previous, day: list[str]) -> str:
    return previous.tenant_id


def drain(runtime: Runtime) -> None:
    """What the present version's worker does."""
    for lane in Lane:
        while plan_events(runtime, lane):
            pass
        while send.deliver(runtime, lane):
            pass


def scoped(connection: psycopg.Connection[Any], previous: Previous, kind: str, tenant_id: str = "") -> None:
    """The previous version's way to say whose transaction this is."""
    previous.ask(connection, "db.apply_scope", kind=kind, tenant=tenant_id, person="")


def test_every_word_of_the_previous_version_does_what_it_did(
    day: list[str], previous: Previous, runtime: Runtime
) -> None:
    assert day == []
    statuses = {row.status for row in rows_of(runtime, previous.tenant_id, Delivery)}
    assert statuses >= {"sent", "delivered", "bounced", "failed", "skipped", "canceled", "pending", "sending"}


@pytest.mark.usefixtures("day")
def test_the_api_shows_what_the_previous_version_wrote(client: Any) -> None:
    paths = ("events", "deliveries", "rules", "templates", "recipients", "api-keys", "signing-keys")
    for path in (*paths, "webhooks/configurations"):
        items = client.get(f"/api/{path}", headers=AUTH).json["items"]
        assert items, path
        for item in items:
            found = client.get(f"/api/{path}/{item.get('id') or item['userId']}", headers=AUTH)
            assert found.status_code == 200, found.json
    assert client.get("/api/notifications?userId=ada", headers=AUTH).json["items"]
    choices = client.get("/api/notifications/preferences?userId=bob", headers=AUTH).json["items"]
    assert ("tickets", "sms", False) in {(one["category"], one["channel"], one["enabled"]) for one in choices}


def test_an_answer_that_the_previous_version_stored_is_replayed(client: Any, runtime: Runtime, tenant_id: str) -> None:
    before = len(rows_of(runtime, tenant_id, Event))
    body = {"eventType": "order.created", "data": ORDER | {"orderId": "B-2002"}, "recipients": ["ada", "bob"]}

    answer = client.post("/api/events", json=body, headers=AUTH | {"Idempotency-Key": "order-2002"})

    assert answer.headers["Idempotency-Replayed"] == "true"
    assert len(rows_of(runtime, tenant_id, Event)) == before


def test_what_the_previous_version_left_behind_is_planned_and_sent(
    runtime: Runtime,
    tenant_id: str,
    old: psycopg.Connection[Any],
    previous: Previous,
    smtp: SmtpServer,
    twilio: TwilioServer,
    receiver: HttpReceiver,
) -> None:
    # given two events, one mail, and a message whose worker is gone
    waiting = [row.id for row in rows_of(runtime, tenant_id, Event, status="received")]
    (held,) = rows_of(runtime, tenant_id, Delivery, status="sending")
    assert len(waiting) == 2
    with old.transaction():
        scoped(old, previous, "system")
        old.execute("UPDATE notification_logs SET lease_until = now() - interval '1 second' WHERE status = 'sending'")
    # when the present version's worker sweeps, plans and sends
    sweeps.sweep(runtime)
    drain(runtime)
    # then nothing is left, and each has gone out once
    events = rows_of(runtime, tenant_id, Event)
    assert {row.status for row in events} == {"planned"}
    made = [row for row in rows_of(runtime, tenant_id, Delivery) if row.event_id in waiting]
    assert {row.status for row in made} <= FINAL
    assert {row.channel for row in made} == {"email", "sms", "webhook", "in_app"}
    hooks = [row.id for row in made if row.channel == "webhook" and row.status == "delivered"]
    assert sorted(one.headers["webhook-id"] for one in receiver.ledger if one.headers["webhook-id"] in hooks) == hooks
    assert [mail.message["subject"] for mail in smtp.ledger].count("Left behind") == 1
    assert [sms.body for sms in twilio.ledger].count("Held") == 1
    attempts = rows_of(runtime, tenant_id, Attempt, delivery_id=held.id)
    assert [one.outcome for one in attempts] == ["lost", "accepted"]


def test_the_previous_worker_plans_what_the_present_web_process_accepted(
    client: Any, runtime: Runtime, tenant_id: str, old: psycopg.Connection[Any], previous: Previous
) -> None:
    drain(runtime)
    event = {"eventType": "order.created", "data": ORDER, "recipients": [ADA]}
    posted = client.post("/api/events", json=event, headers=AUTH).json["id"]

    with old.transaction():
        scoped(old, previous, "system")
        waiting = previous.ask(old, "event_claims.tenants", lane="normal")
        scoped(old, previous, "tenant", tenant_id)
        (claimed,) = previous.ask(old, "event_claims.claim", lane="normal", tenant=tenant_id, lease_seconds=120.0)
        done = {"id": posted, "attempt": 1, "cursor": 1, "status": "planned", "notes": []}
        values: dict[str, Any] = {"rows": json.dumps([done]), "ids": [posted], "tenant": tenant_id}
        advanced = previous.ask(old, "event_claims.advance", lease_seconds=120.0, **values)

    assert [str(row["tenant_id"]) for row in waiting] == [tenant_id]
    assert (str(claimed["id"]), claimed["user_ids"], claimed["data"]) == (posted, ["ada"], ORDER)
    assert [str(row["id"]) for row in advanced] == [posted]
    assert client.get(f"/api/events/{posted}", headers=AUTH).json["status"] == "planned"


def test_the_previous_worker_sends_what_the_present_version_wrote(
    client: Any, runtime: Runtime, tenant_id: str, old: psycopg.Connection[Any], previous: Previous
) -> None:
    drain(runtime)
    message = {"to": "+15005550006", "message": "For the old worker"}
    (made,) = client.post("/api/send/sms", json=message, headers=AUTH).json["deliveries"]
    slot = {"lane": "transactional", "tenant": tenant_id, "channel": "sms"}

    with old.transaction():
        scoped(old, previous, "system")
        waiting = previous.ask(old, "claims.slots", lane="transactional")
        scoped(old, previous, "tenant", tenant_id)
        due = [str(row["id"]) for row in previous.ask(old, "claims.claim_due", **slot, limit=100)]
        (claim,) = previous.ask(old, "claims.claim_these", ids=due, tenant=tenant_id, lease_seconds=60.0)
    with old.transaction():
        scoped(old, previous, "tenant", tenant_id)
        result = {"id": made["id"], "attempt": claim["attempt"], "status": "sent", "provider": "twilio"}
        previous.ask(old, "outcome._write", rows=json.dumps([result | {"turn": 1}]), ids=due, tenant=tenant_id)

    assert [(str(row["tenant_id"]), row["channel"]) for row in waiting] == [(tenant_id, "sms")]
    assert due == [made["id"]]
    shown = client.get(f"/api/deliveries/{made['id']}", headers=AUTH).json
    assert (shown["status"], shown["provider"], shown["attemptCount"]) == ("sent", "twilio", 1)


def test_a_result_of_the_previous_worker_does_not_cover_another_attempts(
    client: Any, runtime: Runtime, tenant_id: str, old: psycopg.Connection[Any], previous: Previous
) -> None:
    # given a delivery that the present version's worker has taken over and sent
    drain(runtime)
    (made,) = client.post("/api/send/sms", json={"to": "+15005550006", "message": "x"}, headers=AUTH).json["deliveries"]
    drain(runtime)
    # when a result comes for an attempt that was never this one's
    with old.transaction():
        scoped(old, previous, "tenant", tenant_id)
        late = {"id": made["id"], "attempt": 7, "status": "failed", "reason": "timeout", "provider": "smtp"}
        values: dict[str, Any] = {"rows": json.dumps([late]), "ids": [made["id"]], "tenant": tenant_id}
        previous.ask(old, "outcome._write", **values)
    # then it is not heard
    shown = client.get(f"/api/deliveries/{made['id']}", headers=AUTH).json
    assert (shown["status"], shown["provider"]) == ("sent", "twilio")
