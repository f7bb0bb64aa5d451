"""A process whose clock is wrong, beside one whose clock is right: nothing waits for it, nothing is asked too often,
and what has expired is what the database says.

With PostgreSQL only: SQLite has one process, and one clock.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import pytest
from sqlalchemy import update

from app import make_runtime
from app.clock import Clock
from app.config import Settings
from app.core import erasures, recipients
from app.core.deliveries import breakers, claims, outcome, send
from app.core.outbox import Lane
from app.core.pipeline import EventInput, plan_events
from app.core.runtime import Runtime
from app.models import Delivery
from app.tenancy import Purpose, system, tenant
from providers.contract import Channel, OutboundMessage, RetryableError
from tests.conftest import make_due
from tests.core.helpers import ORDER, accept, add_endpoint, keep_only, post_direct, rows_of
from tests.core.scripted import Scripted, with_providers
from tests.servers.http import HttpReceiver
from tests.servers.process import free_port

pytestmark = pytest.mark.parametrize("shape", ["production"], indirect=True)

WRONG = timedelta(minutes=5)
PAUSE_SECONDS = 60
A_WHILE = WRONG / 2  # less than a clock is wrong by
EXPIRED = ("skipped", "expired")


class WrongClock(Clock):
    """The machine's clock, and so much more."""

    def __init__(self, more: timedelta) -> None:
        self._more = more

    def now(self) -> datetime:
        return super().now() + self._more


@pytest.fixture
def make_settings() -> Callable[..., Settings]:
    return lambda **values: Settings(**values, breaker_failures=1, breaker_seconds=PAUSE_SECONDS)


@pytest.fixture(params=[WRONG, -WRONG], ids=["ahead", "behind"])
def wrong(settings: Settings, request: pytest.FixtureRequest) -> Iterator[Runtime]:
    """Another process of the same installation, with a wrong clock."""
    made = make_runtime(settings, WrongClock(request.param))
    yield made
    made.channels.close()
    made.db.close()


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with HttpReceiver() as server:
        yield server


def due(runtime: Runtime) -> list[tuple[str, str]]:
    with runtime.db.transaction(system(Purpose.CLAIM)) as session:
        return [slot for lane in Lane for slot in claims.slots(session, lane, runtime.clock.now())]


def wait_for_dead_host(runtime: Runtime, tenant_id: str, count: int) -> None:
    """One webhook finds its host dead, which opens the breaker; so many more wait for it."""
    add_endpoint(runtime, tenant_id, f"http://127.0.0.1:{free_port()}/")
    for events in (1, count):
        accept(runtime, tenant_id, *(EventInput("a.b") for _ in range(events)))
        plan_events(runtime, Lane.NORMAL)


def expire(runtime: Runtime, late: str, timely: str) -> None:
    """Let one delivery have expired a while ago, and another expire in a while."""
    with runtime.db.transaction(system(Purpose.MIGRATE)) as session:
        for delivery_id, moment in ((late, -A_WHILE), (timely, A_WHILE)):
            ends = runtime.clock.now() + moment
            session.execute(update(Delivery).where(Delivery.id == delivery_id).values(expires_at=ends))


def test_what_it_writes_is_due_at_once(runtime: Runtime, wrong: Runtime, tenant_id: str) -> None:
    # given an event that a wrong clock has written, and a direct send
    add_endpoint(runtime, tenant_id, f"http://127.0.0.1:{free_port()}/")
    accept(wrong, tenant_id, EventInput("a.b"))
    post_direct(wrong, tenant_id, Channel.IN_APP, "ada", title="Words", text="Words")
    # then the event can be planned at once, and what was sent directly can be claimed
    assert due(runtime) == [(tenant_id, "in_app")]
    assert plan_events(runtime, Lane.NORMAL) == 1


def test_what_it_plans_is_due_at_once(runtime: Runtime, wrong: Runtime, tenant_id: str) -> None:
    # given more deliveries than the planner sends itself
    for _ in range(claims.BATCH + 1):
        add_endpoint(runtime, tenant_id, f"http://127.0.0.1:{free_port()}/")
    accept(runtime, tenant_id, EventInput("a.b"))
    # when a wrong clock plans them
    plan_events(wrong, Lane.NORMAL)
    # then they can be claimed
    assert due(runtime) == [(tenant_id, "webhook")]


def test_it_asks_a_provider_that_is_down_when_all_others_do(runtime: Runtime, wrong: Runtime, tenant_id: str) -> None:
    # given a breaker that has opened just now
    provider = Scripted(Channel.SMS, lambda _message: RetryableError("connection_refused"))
    house, other = with_providers(runtime, provider), with_providers(wrong, provider)
    post_direct(house, tenant_id, Channel.SMS, "+15005550001", text="Words")
    send.deliver(house, Lane.TRANSACTIONAL)
    # when a wrong clock looks at it
    with other.db.transaction(system(Purpose.CLAIM)) as session:
        state = breakers.glance(session, other)["sms:scripted"]
    # then it sees the time that is left
    left = (state.probe_at - other.clock.now()).total_seconds()
    assert PAUSE_SECONDS - 30 < left <= PAUSE_SECONDS + 1


def test_it_puts_webhooks_off_by_no_more_than_the_breaker_says(
    runtime: Runtime, wrong: Runtime, tenant_id: str
) -> None:
    # given a dead host, whose breaker a right clock has opened, and more for it
    wait_for_dead_host(runtime, tenant_id, 3)
    # when a wrong clock meets them
    send.deliver(wrong, Lane.NORMAL)
    # then they are looked at again when the breaker's pause is over, by everybody's clock
    waiting = [row for row in rows_of(runtime, tenant_id, Delivery) if row.reason == "circuit_open"]
    assert len(waiting) == 3
    latest = runtime.clock.now() + timedelta(seconds=1.5 * PAUSE_SECONDS + 1)
    assert all(runtime.clock.now() < row.next_attempt_at < latest for row in waiting)


def test_it_claims_as_if_it_were_right(runtime: Runtime, wrong: Runtime, tenant_id: str) -> None:
    # given a delivery that is to be tried again in a while
    def refuse(_message: OutboundMessage) -> RetryableError:
        return RetryableError("http_429", detail={"status": 429}, retry_after=60)

    house, other = (with_providers(one, Scripted(Channel.EMAIL, refuse)) for one in (runtime, wrong))
    post_direct(house, tenant_id, Channel.EMAIL, "ada@example.com", subject="Words", text="Words")
    send.deliver(house, Lane.TRANSACTIONAL)
    # when a wrong clock looks for work, then there is none yet
    assert send.deliver(other, Lane.TRANSACTIONAL) == 0


def test_it_plans_as_expired_what_has_expired_and_nothing_else(
    runtime: Runtime, wrong: Runtime, tenant_id: str, receiver: HttpReceiver
) -> None:
    # given an event that has expired a while ago, and one that expires in a while
    keep_only(runtime, tenant_id, "in_app")
    add_endpoint(runtime, tenant_id, receiver.url("/"))
    now = runtime.clock.now()
    late, timely = accept(
        runtime,
        tenant_id,
        *(EventInput("order.created", ORDER, ("ada",), expires_at=now + moment) for moment in (-A_WHILE, A_WHILE)),
    )
    # when a wrong clock plans them, and sends what they make
    while plan_events(wrong, Lane.NORMAL):
        pass
    # then only the second has gone out
    made = {(row.event_id, row.channel): (row.status, row.reason) for row in rows_of(runtime, tenant_id, Delivery)}
    assert made == {
        (late, "in_app"): EXPIRED,
        (late, "webhook"): EXPIRED,
        (timely, "in_app"): ("delivered", None),
        (timely, "webhook"): ("delivered", None),
    }


def test_it_sends_what_has_not_expired_and_nothing_else(runtime: Runtime, wrong: Runtime, tenant_id: str) -> None:
    # given a delivery that has expired a while ago, and one that expires in a while
    provider = Scripted(Channel.SMS)
    house, other = with_providers(runtime, provider), with_providers(wrong, provider)
    late, timely = (post_direct(house, tenant_id, Channel.SMS, "+15005550001", text="Words") for _ in range(2))
    expire(runtime, late, timely)
    # when a wrong clock sends them
    send.deliver(other, Lane.TRANSACTIONAL)
    # then only the second has gone out
    made = {row.id: (row.status, row.reason) for row in rows_of(runtime, tenant_id, Delivery)}
    assert made == {late: EXPIRED, timely: ("sent", None)}
    assert provider.began == [timely]


def test_it_ends_what_has_expired_for_a_dead_host_and_nothing_else(
    runtime: Runtime, wrong: Runtime, tenant_id: str
) -> None:
    # given a dead host, whose breaker is open, and two that wait for it
    wait_for_dead_host(runtime, tenant_id, 2)
    late, timely = (row.id for row in rows_of(runtime, tenant_id, Delivery) if row.attempt == 0)
    expire(runtime, late, timely)
    # when a wrong clock meets them
    send.deliver(wrong, Lane.NORMAL)
    # then only what has expired has come to its end
    made = {row.id: (row.status, row.reason) for row in rows_of(runtime, tenant_id, Delivery) if row.attempt == 0}
    assert made == {late: EXPIRED, timely: ("pending", "circuit_open")}


def test_what_it_calls_off_for_an_erasure_is_tried_by_nobody(runtime: Runtime, wrong: Runtime, tenant_id: str) -> None:
    # given a mail that is on the wire
    provider = Scripted(Channel.EMAIL)
    house = with_providers(runtime, provider)
    mail = post_direct(house, tenant_id, Channel.EMAIL, "ada@example.com", subject="Words", text="Words")
    with house.db.transaction(tenant(tenant_id)) as session:
        recipients.upsert(session, house.clock, tenant_id, [{"user_id": "ada", "email": "ada@example.com"}])
        (claim,) = claims.claim_these(session, tenant_id, [mail], house.clock.now(), 60)
    # when a wrong clock erases the person meanwhile, and the try fails
    erasures.erase(wrong, tenant_id, "ada", seconds=30)
    with house.db.transaction(tenant(tenant_id)) as session:
        failed = outcome.Tried(claim, "scripted", RetryableError("timeout"))
        outcome.record(session, house, tenant_id, [failed], random.Random(1))
    make_due(house)
    # then a right one does not try it again
    send.deliver(house, Lane.TRANSACTIONAL)
    assert provider.began == []
