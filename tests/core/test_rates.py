"""Rates of providers: messages a second, kept over all processes by one row of the database."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import update

from app import make_runtime
from app.broker import make_bell
from app.clock import Clock, FixedClock
from app.config import Settings, SettingsError
from app.core import pipeline
from app.core.channels import Channels
from app.core.deliveries import rates, send
from app.core.outbox import Job, Lane
from app.core.pipeline import EventInput
from app.core.runtime import Runtime
from app.entrypoints import actors
from app.models import Delivery
from app.models.system import ProviderRate
from app.running.worker import InProcessWorker
from app.tenancy import Purpose, system
from providers.contract import Accepted, Channel, OutboundMessage
from tests.conftest import wait_until
from tests.core.helpers import ADA, accept, drain, post_direct, rows_of
from tests.core.scripted import Scripted, with_providers

RATE, BURST = 40, 10  # a second; at once


@pytest.fixture
def make_settings() -> Callable[..., Settings]:
    return lambda **values: Settings(**values, sms_rate=f"{RATE} per second", email_rate="1 per hour", sweep_seconds=80)


@pytest.fixture
def other(runtime: Runtime, settings: Settings) -> Iterator[Runtime]:
    """Another process of the same installation."""
    made = make_runtime(settings)
    yield made
    made.channels.close()
    made.db.close()


class Ledger:
    """When each message came, by a clock of the test's choice."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.times: list[float] = []
        self._now = now

    def act(self, _message: OutboundMessage) -> Accepted:
        self.times.append(self._now())
        return Accepted("id")


def texts(runtime: Runtime, tenant_id: str, count: int) -> list[str]:
    return [post_direct(runtime, tenant_id, Channel.SMS, f"+1500555{n:04}", text="Words") for n in range(count)]


def most_in_a_second(times: list[float]) -> int:
    """The largest number of messages in any stretch of a second."""
    return max(sum(1 for at in times if begin <= at < begin + 1) for begin in times)


@pytest.mark.parametrize("given", ["0 per second", "14", "14 a second", "1.5 per second"])
def test_a_rate_that_is_none_is_refused(given: str) -> None:
    with pytest.raises(SettingsError, match=r"SMS_RATE: .* is not a rate such as"):
        Settings.from_env({"SMS_RATE": given})


@pytest.mark.parametrize("shape", ["embedded"], indirect=True)  # whose clock is ours
def test_no_second_has_more_than_the_rate_and_the_burst(runtime: Runtime, tenant_id: str) -> None:
    # given more than can be sent, and a clock that we move
    clock = FixedClock(Clock().now())
    ledger = Ledger(lambda: clock.now().timestamp())
    house = replace(with_providers(runtime, Scripted(Channel.SMS, ledger.act)), clock=clock)
    texts(house, tenant_id, 150)
    begun = clock.now().timestamp()
    # when it is asked for in uneven steps, now and then after a while
    steps = [0.0, 0.01, 0.02, 0.5, 0.001, 0.03, 0.3, 2.0, 0.0, 0.1] * 5
    for step in steps:
        clock.advance(seconds=step)
        rates._empty_until.pop(house.db, None)  # which goes by another clock
        drain(house)
    # then the rate holds in every stretch, however it is laid
    assert most_in_a_second(ledger.times) <= RATE + BURST
    assert len(ledger.times) == 150
    assert ledger.times[BURST - 1] == begun
    assert ledger.times[BURST] > begun


def test_two_processes_together_keep_it(runtime: Runtime, other: Runtime, tenant_id: str) -> None:
    # given a provider for two processes, and as much as two seconds of work
    ledger = Ledger()
    provider = Scripted(Channel.SMS, ledger.act)
    houses = [with_providers(runtime, provider), with_providers(other, provider)]
    ids = texts(houses[0], tenant_id, 2 * RATE)
    began, stop = time.monotonic(), threading.Event()

    def work(house: Runtime) -> None:
        while not stop.is_set():
            send.deliver(house, Lane.TRANSACTIONAL)
            stop.wait(0.005)

    threads = [threading.Thread(target=work, args=(house,)) for house in houses for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: len(ledger.times) >= len(ids))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    # then at no moment had more gone out than the rate allows from the beginning, and none went out twice
    early = [n for n, at in enumerate(sorted(ledger.times), 1) if n > RATE * (at - began) + BURST + 1]
    assert not early
    assert sorted(provider.began) == sorted(ids)


def test_a_rate_above_a_batch_is_used_batch_after_batch(runtime: Runtime, tenant_id: str) -> None:
    fast = replace(runtime, settings=replace(runtime.settings, sms_rate="2000 per second"))
    provider = Scripted(Channel.SMS)
    house = with_providers(fast, provider)
    texts(house, tenant_id, 220)
    for _ in range(3):
        send.deliver(house, Lane.TRANSACTIONAL)
    assert len(provider.began) == 220


def test_a_worker_comes_back_for_the_rest_by_itself(runtime: Runtime, tenant_id: str) -> None:
    # given three bursts, and a sweep that is far away
    provider = Scripted(Channel.SMS)
    house = replace(with_providers(runtime, provider), bell=make_bell(runtime.settings.redis_url))
    actors.declare(house.bell, house)
    ids = texts(house, tenant_id, 3 * BURST)
    worker = InProcessWorker(house)
    worker.start()
    try:
        # when the bell rings once
        house.bell.ring(Job.DELIVER, Lane.TRANSACTIONAL)
        wait_until(lambda: len(provider.began) == len(ids), seconds=house.settings.sweep_seconds / 2)
    finally:
        worker.stop()


def test_what_is_used_up_on_one_channel_holds_back_no_other(runtime: Runtime, tenant_id: str) -> None:
    provider = Scripted(Channel.SMS)
    house = with_providers(runtime, provider)
    texts(house, tenant_id, 5 * BURST)
    drain(house)
    item = post_direct(runtime, tenant_id, Channel.IN_APP, "ada", title="Hello", text="Words")
    drain(runtime)
    (row,) = rows_of(runtime, tenant_id, Delivery, id=item)
    assert row.status == "delivered"


def test_planning_sends_nothing_past_the_rate(runtime: Runtime, tenant_id: str) -> None:
    # given an hourly rate for email, which is used up
    provider = Scripted(Channel.EMAIL)
    house = with_providers(runtime, provider)
    for number in range(3):
        accept(house, tenant_id, EventInput("order.created", data={"n": number}, people=(ADA,)))
        pipeline.plan_events(house, Lane.NORMAL)
    drain(house)
    assert len(provider.began) == 1
    waiting = rows_of(house, tenant_id, Delivery, channel="email", status="pending")
    assert {(row.attempt, row.tries) for row in waiting} == {(0, 0)}


def test_what_was_not_used_is_kept_for_a_moment_and_not_for_a_night(runtime: Runtime, tenant_id: str) -> None:
    provider = Scripted(Channel.SMS)
    house = with_providers(runtime, provider)
    (first,) = texts(house, tenant_id, 1)
    drain(house)
    assert provider.began == [first]
    # when its clock stands far behind
    with house.db.transaction(system(Purpose.MIGRATE)) as session:
        session.execute(update(ProviderRate).values(next_free_at=house.clock.now() - timedelta(hours=8)))
    texts(house, tenant_id, 3 * BURST)
    send.deliver(house, Lane.TRANSACTIONAL)
    # then a burst goes out, and no more
    assert len(provider.began) == 1 + BURST


@pytest.mark.parametrize("shape", ["production"], indirect=True)  # SQLite has one writer: nobody claims beside another
def test_nobody_waits_for_a_clock_that_another_claim_holds(runtime: Runtime, tenant_id: str) -> None:
    # given a claim that was stopped in its midst, on a channel with a rate
    provider = Scripted(Channel.SMS)
    bell = runtime.channels.providers(Channel.IN_APP)
    channels = Channels({Channel.SMS: [provider], Channel.IN_APP: bell}, dict.fromkeys(Channel, 1.0))
    house = replace(runtime, channels=channels)
    texts(house, tenant_id, 2)
    item = post_direct(runtime, tenant_id, Channel.IN_APP, "ada", title="Hello", text="Words")
    with house.db.work(system(Purpose.CLAIM)) as stopped:
        assert rates.permit(stopped, house, provider)
        # when others look for work, then they find that channel without a permit, and go on with the rest
        drain(house)
        assert provider.began == []
        (row,) = rows_of(runtime, tenant_id, Delivery, id=item)
        assert row.status == "delivered"
    # and it has its turn when the claim is over
    drain(house)
    assert len(provider.began) == 2


@pytest.mark.parametrize("shape", ["production"], indirect=True)  # where two claim at once
@pytest.mark.parametrize("known", [True, False])
def test_claims_that_want_two_clocks_in_two_orders_go_through(runtime: Runtime, known: bool) -> None:
    mail, sms = Scripted(Channel.EMAIL), Scripted(Channel.SMS)
    for provider in (mail, sms) if known else ():
        with runtime.db.work(system(Purpose.CLAIM)) as session:
            rates.permit(session, runtime, provider)
    with runtime.db.work(system(Purpose.CLAIM)) as one, runtime.db.work(system(Purpose.CLAIM)) as two:
        # given that each holds one of them
        for session, provider in ((one, mail), (two, sms)):
            permit = rates.permit(session, runtime, provider)
            assert permit
            assert permit.count
        # when each asks for the other, then neither waits
        crossed = rates.permit(one, runtime, sms), rates.permit(two, runtime, mail)
        assert [(permit.count, permit.held) for permit in crossed if permit] == [(0, True)] * 2


def test_a_test_that_somebody_waits_for_is_sent_past_the_rate_and_counts(runtime: Runtime, tenant_id: str) -> None:
    # given an hourly rate for email
    provider = Scripted(Channel.EMAIL)
    house = with_providers(runtime, provider)
    waiting = post_direct(house, tenant_id, Channel.EMAIL, "bob@example.com", subject="Words", text="Words")
    # when somebody tries it out twice, and then others have their turn
    trials = [
        post_direct(house, tenant_id, Channel.EMAIL, "ada@example.com", subject="A test", text="A test")
        for _ in range(2)
    ]
    for trial in trials:
        send.send_now(house, tenant_id, [trial])
    drain(house)
    # then both tests are sent, and there is nothing left for the others
    assert provider.began == trials
    (row,) = rows_of(house, tenant_id, Delivery, id=waiting)
    assert (row.status, row.tries) == ("pending", 0)
