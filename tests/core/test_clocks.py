"""A process whose clock is wrong, beside one whose clock is right: nothing waits for it, nothing is asked too often.

With PostgreSQL only: SQLite has one process, and one clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import pytest

from app import make_runtime
from app.clock import Clock
from app.config import Settings
from app.core.deliveries import breakers, claims, send
from app.core.outbox import Lane
from app.core.pipeline import EventInput, plan_events
from app.core.runtime import Runtime
from app.models import Delivery
from app.tenancy import Purpose, system
from providers.contract import Channel, OutboundMessage, RetryableError
from tests.core.helpers import accept, add_endpoint, post_direct, rows_of
from tests.core.scripted import Scripted, with_providers
from tests.servers.process import free_port

pytestmark = pytest.mark.parametrize("shape", ["production"], indirect=True)

WRONG = timedelta(minutes=5)
PAUSE_SECONDS = 60


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


def due(runtime: Runtime) -> list[tuple[str, str]]:
    with runtime.db.transaction(system(Purpose.CLAIM)) as session:
        return [slot for lane in Lane for slot in claims.slots(session, lane, runtime.clock.now())]


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
    add_endpoint(runtime, tenant_id, f"http://127.0.0.1:{free_port()}/")
    accept(runtime, tenant_id, EventInput("a.b"))
    plan_events(runtime, Lane.NORMAL)
    accept(runtime, tenant_id, *(EventInput("a.b") for _ in range(3)))
    plan_events(runtime, Lane.NORMAL)
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
