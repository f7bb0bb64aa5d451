"""Circuit breakers: what does not answer costs neither threads nor attempts, and is asked by one delivery at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, text, update

from app import make_runtime, rows
from app.config import Settings
from app.core import pipeline, sweeps, trials
from app.core.deliveries import breakers, lapsed, send
from app.core.deliveries.drafts import new_row
from app.core.outbox import Lane
from app.core.pipeline import EventInput
from app.core.runtime import Runtime
from app.ids import new_id
from app.models import Attempt, Delivery, Tenant
from app.models.system import Breaker
from app.tenancy import Purpose, system, tenant
from providers.contract import Accepted, Channel, OutboundMessage, PermanentError, RetryableError
from tests.conftest import make_due
from tests.core.helpers import accept, add_endpoint, drain, post_direct, rows_of
from tests.core.scripted import Scripted, accept_all, with_providers
from tests.servers.http import Answer, HttpReceiver
from tests.servers.process import free_port

FAILURES = 3
Fault = RetryableError | PermanentError


@pytest.fixture
def make_settings() -> Callable[..., Settings]:
    return lambda **values: Settings(**values, breaker_failures=FAILURES, breaker_seconds=60, breaker_max_seconds=200)


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with HttpReceiver() as server:
        yield server


@pytest.fixture
def other(runtime: Runtime, settings: Settings) -> Iterator[Runtime]:
    """Another process of the same installation: it knows only what the database tells it."""
    made = make_runtime(settings)
    yield made
    made.channels.close()
    made.db.close()


def refuse(_message: OutboundMessage) -> RetryableError:
    return RetryableError("connection_refused")


def texts(runtime: Runtime, tenant_id: str, count: int) -> list[str]:
    return [post_direct(runtime, tenant_id, Channel.SMS, f"+1500555{n:04}", text="Words") for n in range(count)]


def states(runtime: Runtime) -> dict[str, Breaker]:
    with runtime.db.transaction(system(Purpose.CLAIM), read_only=True) as session:
        return {one.name: one for one in session.execute(select(Breaker)).scalars()}


def test_streaks_are_bounded_and_the_oldest_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breakers, "_MOST_STREAKS", 3)
    known = breakers.Known()
    for name in ("a", "b", "c", "a", "d"):
        known.fault(name)
    assert known.fault("a") == 3
    assert known.fault("b") == 1


def test_nobody_reads_the_broken_hosts_of_others(runtime: Runtime, tenant_id: str) -> None:
    # given broken hosts of two tenants, whose ids begin alike, and a provider that is down
    other = tenant_id[:-1] + ("0" if tenant_id[-1] != "0" else "1")
    mine = breakers.of_host(tenant_id, "https://one.example/")
    with runtime.db.transaction(system(Purpose.SWEEP)) as session:
        for name in (mine, breakers.of_host(other, "https://two.example/"), "email:smtp", "sms:twilio"):
            assert breakers.open_one(session, runtime, name, "timeout")
    # when a process looks for its own
    with runtime.db.transaction(system(Purpose.CLAIM), read_only=True) as session:
        assert set(breakers.glance(session, runtime)) == {"email:smtp", "sms:twilio"}
        assert set(breakers.glance(session, runtime, tenant_id)) == {mine}
    assert not breakers.known(runtime).of(other)


def test_a_tenant_has_so_many_hosts_left_alone_and_no_more(
    runtime: Runtime, tenant_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breakers, "MOST_HOSTS", 2)
    with runtime.db.transaction(system(Purpose.SWEEP)) as session:
        opened = [
            breakers.open_one(session, runtime, breakers.of_host(tenant_id, f"https://{n}.example/"), "timeout")
            for n in range(3)
        ]
        assert opened == [True, True, False]
        assert breakers.open_one(session, runtime, "email:smtp", "timeout")


def let_time_pass(*houses: Runtime) -> None:
    """The time of every probe has come."""
    with houses[0].db.transaction(system(Purpose.MIGRATE)) as session:
        past = houses[0].clock.now() - timedelta(seconds=1)
        session.execute(update(Breaker).values(probe_at=past))
    for house in houses:
        breakers.known(house).forget()


def found(runtime: Runtime, tenant_id: str) -> Counter[tuple[str, int]]:
    """{(status, tries): how many deliveries}."""
    return Counter((row.status, row.tries) for row in rows_of(runtime, tenant_id, Delivery))


def dead_url(path: str = "/") -> str:
    return f"http://127.0.0.1:{free_port()}{path}"


def test_a_provider_that_does_not_answer_costs_so_many_tries_and_no_more(runtime: Runtime, tenant_id: str) -> None:
    # given a provider that is down, and a batch for it
    provider = Scripted(Channel.SMS, refuse)
    house = with_providers(runtime, provider)
    texts(house, tenant_id, 20)
    # when the batch is sent, and more is asked for
    drain(house)
    make_due(house)
    drain(house)
    # then it was tried as often as opens the breaker; the others wait, due, and have lost nothing
    assert len(provider.began) == FAILURES
    assert found(house, tenant_id) == {("pending", 1): FAILURES, ("pending", 0): 20 - FAILURES}
    assert states(house)["sms:scripted"].reason == "connection_refused"


def test_all_processes_know_of_it(runtime: Runtime, other: Runtime, tenant_id: str) -> None:
    here, there = Scripted(Channel.SMS, refuse), Scripted(Channel.SMS, refuse)
    texts(with_providers(runtime, here), tenant_id, 10)
    drain(with_providers(runtime, here))
    make_due(runtime)
    drain(with_providers(other, there))
    assert (len(here.began), len(there.began)) == (FAILURES, 0)


def test_when_its_time_has_come_one_process_asks_with_one_delivery(
    runtime: Runtime, other: Runtime, tenant_id: str
) -> None:
    # given an open breaker whose time has come, in two processes
    here, there = Scripted(Channel.SMS, refuse), Scripted(Channel.SMS, refuse)
    houses = with_providers(runtime, here), with_providers(other, there)
    texts(houses[0], tenant_id, 10)
    drain(houses[0])
    let_time_pass(*houses)
    for house in houses:  # each believes that it is time
        with house.db.work(system(Purpose.CLAIM)) as session:
            breakers.glance(session, house)
    # when both look for work
    for house in (*houses, *houses):
        send.deliver(house, Lane.TRANSACTIONAL)
    # then one of them has asked once, and it stays open, for longer
    assert len(here.began) + len(there.began) == FAILURES + 1
    state = states(runtime)["sms:scripted"]
    assert state.openings == 2
    assert timedelta(seconds=70) < state.probe_at - runtime.clock.now() < timedelta(seconds=130)


def test_the_pause_doubles_up_to_its_limit(runtime: Runtime) -> None:
    assert [breakers.pause(runtime, openings) for openings in (1, 2, 3, 40)] == [60, 120, 200, 200]


def test_a_probe_that_goes_through_closes_it_and_the_rest_goes_out(
    runtime: Runtime, other: Runtime, tenant_id: str
) -> None:
    provider = Scripted(Channel.SMS, refuse)
    house, elsewhere = with_providers(runtime, provider), with_providers(other, provider)
    ids = texts(house, tenant_id, 10)
    drain(house)
    # when it is up again
    provider.act = accept_all
    let_time_pass(house, elsewhere)
    send.deliver(elsewhere, Lane.TRANSACTIONAL)
    assert not states(house)
    breakers.known(house).forget()
    make_due(house)
    drain(house)
    # then all is sent, each once besides the tries that opened it
    assert {row.status for row in rows_of(house, tenant_id, Delivery)} == {"sent"}
    assert set(Counter(provider.began)) == set(ids)
    assert len(provider.began) == len(ids) + FAILURES


def test_a_probe_that_learns_nothing_of_the_provider_lets_the_next_one_ask(runtime: Runtime, tenant_id: str) -> None:
    provider = Scripted(Channel.SMS, refuse)
    house = with_providers(runtime, provider)
    texts(house, tenant_id, 6)
    drain(house)
    # when the probe is a message that never got as far
    provider.act = lambda _message: PermanentError("invalid_number")
    let_time_pass(house)
    send.deliver(house, Lane.TRANSACTIONAL)
    assert states(house)["sms:scripted"].openings == 1
    provider.act = accept_all
    drain(house)
    assert not states(house)


def test_a_probe_that_is_never_sent_lets_the_next_one_ask(runtime: Runtime, tenant_id: str) -> None:
    # given an open breaker, and a first delivery that is too late
    provider = Scripted(Channel.SMS, refuse)
    house = with_providers(runtime, provider)
    texts(house, tenant_id, FAILURES)
    drain(house)
    late, _ = texts(house, tenant_id, 2)
    with house.db.transaction(system(Purpose.MIGRATE)) as session:
        gone = house.clock.now() - timedelta(seconds=1)
        session.execute(update(Delivery).where(Delivery.id == late).values(expires_at=gone))
    # when its turn comes first
    provider.act = accept_all
    let_time_pass(house)
    drain(house)
    # then the other one has asked
    assert not states(house)
    (row,) = rows_of(house, tenant_id, Delivery, id=late)
    assert (row.status, row.reason) == ("skipped", "expired")


def test_what_waits_for_providers_that_are_down_comes_to_its_end(runtime: Runtime, tenant_id: str) -> None:
    # given a provider that is down, and what waits for it
    house = with_providers(runtime, Scripted(Channel.SMS, refuse))
    expired, old, young = texts(house, tenant_id, 3)
    bell = post_direct(runtime, tenant_id, Channel.IN_APP, "ada", title="Hello", text="Hello")

    def write(model: Any, where: Any, **values: Any) -> None:
        with house.db.transaction(system(Purpose.MIGRATE)) as session:
            session.execute(update(model).where(where).values(**values))

    past = house.clock.now() - timedelta(days=2)
    write(Delivery, Delivery.id.in_((expired, bell)), expires_at=past)
    write(Delivery, Delivery.id == old, updated_at=past)

    def ends() -> list[tuple[str, str | None]]:
        sweeps._sweep_kind(house, "lapsed")
        made = {row.id: (row.status, row.reason) for row in rows_of(house, tenant_id, Delivery)}
        assert made[bell] == ("pending", None)
        return [made[one] for one in (expired, old, young)]

    # while it answers nothing is ended beside the claims
    assert ends() == [("pending", None)] * 3
    # when its breaker has opened just now, then what is expired is skipped
    with house.db.transaction(system(Purpose.SWEEP)) as session:
        breakers.open_one(session, house, "sms:scripted", "timeout")
    assert ends() == [("skipped", "expired"), ("pending", None), ("pending", None)]
    # and when it has been down for longer than a schedule lasts, what waited as long is given up
    write(Breaker, Breaker.name == "sms:scripted", opened_at=past)
    lapsed._not_before.clear()
    assert ends() == [("skipped", "expired"), ("failed", "circuit_open"), ("pending", None)]


def test_what_nobody_has_asked_for_a_day_is_forgotten(runtime: Runtime, tenant_id: str) -> None:
    now = runtime.clock.now()
    with runtime.db.transaction(system(Purpose.MIGRATE)) as session:
        for name, hours in (("webhook:gone", 25), ("webhook:known", 23)):
            at = now - timedelta(hours=hours)
            session.add(Breaker(name=name, reason="timeout", openings=1, opened_at=at, probe_at=at))
    sweeps.sweep(runtime)
    assert set(states(runtime)) == {"webhook:known"}


def test_another_provider_is_used_and_no_try_is_lost(runtime: Runtime, tenant_id: str) -> None:
    # given two providers, of which the first is down and known to be
    first, second = Scripted(Channel.SMS, refuse, "first"), Scripted(Channel.SMS, accept_all, "second")
    house = with_providers(runtime, first, second)
    texts(house, tenant_id, FAILURES)
    drain(house)
    assert set(states(house)) == {"sms:first"}
    # when more is to be sent
    later = texts(house, tenant_id, 5)
    drain(house)
    # then the second has it at the first try
    made = {row.id: row for row in rows_of(house, tenant_id, Delivery)}
    assert {(made[i].status, made[i].tries, made[i].provider) for i in later} == {("sent", 1, "second")}
    assert len(first.began) == FAILURES


@pytest.mark.parametrize(
    ("fault", "alive"),
    [
        (RetryableError("timeout"), False),
        (RetryableError("http_503", detail={"status": 503}), False),
        (RetryableError("twilio_20500", detail={"status": 500}), False),
        (RetryableError("smtp_421"), False),
        (RetryableError("smtp_554", detail={"smtpCode": 554}), False),
        (RetryableError("auth_failed", loud=True), False),
        (RetryableError("twilio_20003", detail={"status": 401}, loud=True), False),
        (RetryableError("smtp_451", detail={"stage": "rcpt"}), True),
        (PermanentError("smtp_550", detail={"stage": "rcpt"}), True),
        (RetryableError("http_429", detail={"status": 429}), True),
        (RetryableError("http_404", detail={"status": 404}), True),
        (PermanentError("gone", detail={"status": 410}), True),
        (PermanentError("unsubscribed", detail={"status": 400}), True),
        (PermanentError("invalid_number"), None),
        (RetryableError("blocked_address"), None),
        (ValueError("our bug"), None),
    ],
)
def test_what_a_fault_says_of_the_other_side(fault: Exception, alive: bool | None) -> None:
    assert breakers.says(fault) is alive


def test_a_sender_of_the_messages_own_concerns_nobody_else() -> None:
    refused = RetryableError("sender_refused", detail={"stage": "mail"}, loud=True)
    assert breakers.says(refused) is False
    assert breakers.says(refused, own_sender=True) is True


def test_what_is_about_one_address_opens_nothing(runtime: Runtime, tenant_id: str) -> None:
    provider = Scripted(Channel.SMS, lambda _: RetryableError("twilio_21000", detail={"status": 400}))
    house = with_providers(runtime, provider)
    texts(house, tenant_id, 4 * FAILURES)
    drain(house)
    assert len(provider.began) == 4 * FAILURES
    assert not states(house)


def test_faults_with_an_answer_between_them_open_nothing(runtime: Runtime, tenant_id: str) -> None:
    provider = Scripted(Channel.SMS)
    provider.act = lambda _: Accepted("id") if len(provider.began) % FAILURES == 0 else RetryableError("timeout")
    house = with_providers(runtime, provider)
    texts(house, tenant_id, 4 * FAILURES)
    drain(house)
    assert len(provider.began) == 4 * FAILURES
    assert not states(house)


def test_at_zero_it_never_opens(runtime: Runtime, tenant_id: str) -> None:
    provider = Scripted(Channel.SMS, refuse)
    house = with_providers(runtime, provider)
    house = replace(house, settings=replace(house.settings, breaker_failures=0))
    texts(house, tenant_id, 4 * FAILURES)
    drain(house)
    assert len(provider.began) == 4 * FAILURES


class TestWebhooks:
    """A host that does not answer holds back nothing but its own."""

    def put(self, runtime: Runtime, tenant_id: str, url: str, count: int, **values: Any) -> list[str]:
        """Deliveries that wait for a URL."""
        now = runtime.clock.now()
        made = []
        for _ in range(count):
            row = new_row(new_id(), tenant_id, Channel.WEBHOOK, now, Lane.NORMAL.value)
            made.append(row | {"address": url, "event_type": "a.b", "trigger": "direct"} | values)
        contents = {row["id"]: {"payload": "{}"} for row in made}
        with runtime.db.transaction(tenant(tenant_id)) as session:
            rows.insert(session, Delivery, made)
            send.content.keep(session, tenant_id, contents, now)
        return [row["id"] for row in made]

    def open_by(self, runtime: Runtime, tenant_id: str, url: str) -> str:
        """Open a host's breaker as it happens; returns its name."""
        self.put(runtime, tenant_id, url, FAILURES)
        send.deliver(runtime, Lane.NORMAL)
        name = breakers.of_host(tenant_id, url)
        assert name in states(runtime)
        return name

    def test_what_is_for_it_is_put_off_untried_and_the_others_go_on(
        self, runtime: Runtime, tenant_id: str, receiver: HttpReceiver
    ) -> None:
        # given a dead host with a thousand deliveries, and one delivery for another host behind them
        dead = dead_url()
        name = self.open_by(runtime, tenant_id, dead)
        waiting = set(self.put(runtime, tenant_id, dead, 1000))
        self.put(runtime, tenant_id, receiver.url("/"), 1)
        # when a worker looks for work once
        send.deliver(runtime, Lane.NORMAL)
        # then the one has gone out; the thousand wait for the probe, spread out, and nothing of them was tried
        assert len(receiver.ledger) == 1
        made = {row.id: row for row in rows_of(runtime, tenant_id, Delivery)}
        assert {(made[i].status, made[i].reason, made[i].tries, made[i].attempt) for i in waiting} == {
            ("pending", "circuit_open", 0, 0)
        }
        assert not [one for one in rows_of(runtime, tenant_id, Attempt) if one.delivery_id in waiting]
        dues = sorted(made[i].next_attempt_at - states(runtime)[name].probe_at for i in waiting)
        assert timedelta(seconds=-10) < dues[0] < timedelta(seconds=1)
        assert dues[-1] < timedelta(seconds=31)
        assert dues[-1] - dues[0] > timedelta(seconds=20)

    def test_the_rest_of_a_batch_is_given_back_untried(self, runtime: Runtime, tenant_id: str) -> None:
        runtime = replace(runtime, settings=replace(runtime.settings, breaker_failures=1))
        ids = self.put(runtime, tenant_id, dead_url(), 100)
        send.deliver(runtime, Lane.NORMAL)
        tried = [row for row in rows_of(runtime, tenant_id, Delivery) if row.tries]
        assert 1 <= len(tried) < len(ids)  # those that were under way together
        given_back = [row for row in rows_of(runtime, tenant_id, Delivery) if not row.tries]
        assert {(row.status, row.reason) for row in given_back} == {("pending", "circuit_open")}

    def test_one_of_them_asks_and_the_rest_follows(
        self, runtime: Runtime, tenant_id: str, receiver: HttpReceiver
    ) -> None:
        # given a receiver that was down
        receiver.default = Answer(503)
        self.open_by(runtime, tenant_id, receiver.url("/"))
        self.put(runtime, tenant_id, receiver.url("/"), 5)
        drain(runtime)
        assert len(receiver.ledger) == FAILURES
        # when the time has come it is asked once, though all are due
        let_time_pass(runtime)
        make_due(runtime)
        drain(runtime)
        assert len(receiver.ledger) == FAILURES + 1
        # and when it is up again, all arrive
        receiver.default = Answer(204)
        let_time_pass(runtime)
        make_due(runtime)
        drain(runtime)
        assert not states(runtime)
        make_due(runtime)
        drain(runtime)
        assert {row.status for row in rows_of(runtime, tenant_id, Delivery)} == {"delivered"}

    def test_another_tenants_messages_to_the_same_host_are_sent(
        self, runtime: Runtime, tenant_id: str, receiver: HttpReceiver
    ) -> None:
        with runtime.db.transaction(system(Purpose.MIGRATE)) as session:
            sealed = session.execute(select(Tenant.webhook_secret).where(Tenant.id == tenant_id)).scalar_one()
            made = Tenant(name="other", webhook_secret=sealed, created_at=runtime.clock.now())
            session.add(made)
            session.flush()
        receiver.on("/dead", Answer(500))
        self.open_by(runtime, tenant_id, receiver.url("/dead"))
        self.put(runtime, made.id, receiver.url("/fine"), 1)
        drain(runtime)
        assert [row.status for row in rows_of(runtime, made.id, Delivery)] == ["delivered"]

    def test_the_address_of_a_configuration_is_the_one_it_has_now(
        self, runtime: Runtime, tenant_id: str, receiver: HttpReceiver
    ) -> None:
        # given a delivery for a dead host, whose configuration has moved to another
        dead = dead_url()
        self.open_by(runtime, tenant_id, dead)
        endpoint = add_endpoint(runtime, tenant_id, receiver.url("/new"))
        self.put(runtime, tenant_id, dead, 1, configuration_id=endpoint)
        drain(runtime)
        assert [got.path for got in receiver.ledger] == ["/new"]

    def test_past_its_whole_schedule_it_fails_with_a_reason_of_its_own(self, runtime: Runtime, tenant_id: str) -> None:
        dead = dead_url()
        self.open_by(runtime, tenant_id, dead)
        old = runtime.clock.now() - timedelta(days=3)
        (delivery_id,) = self.put(runtime, tenant_id, dead, 1, created_at=old)
        # when it is looked at for the first time, as after a retry by hand, it waits for the probe like others
        drain(runtime)
        (row,) = rows_of(runtime, tenant_id, Delivery, id=delivery_id)
        assert (row.status, row.reason) == ("pending", "circuit_open")
        # and is given up when that has told nothing new
        make_due(runtime)
        drain(runtime)
        (row,) = rows_of(runtime, tenant_id, Delivery, id=delivery_id)
        assert (row.status, row.reason, row.tries) == ("failed", "circuit_open", 0)

    def test_one_that_expires_meanwhile_is_skipped(self, runtime: Runtime, tenant_id: str) -> None:
        dead = dead_url()
        self.open_by(runtime, tenant_id, dead)
        past = runtime.clock.now() - timedelta(seconds=1)
        (delivery_id,) = self.put(runtime, tenant_id, dead, 1, expires_at=past)
        drain(runtime)
        (row,) = rows_of(runtime, tenant_id, Delivery, id=delivery_id)
        assert (row.status, row.reason) == ("skipped", "expired")

    def test_planning_leaves_what_is_for_it_alone(self, runtime: Runtime, tenant_id: str) -> None:
        dead = dead_url()
        self.open_by(runtime, tenant_id, dead)
        add_endpoint(runtime, tenant_id, dead, ("invoice.paid",))
        (event,) = accept(runtime, tenant_id, EventInput("invoice.paid"))
        pipeline.plan_events(runtime, Lane.NORMAL)
        (row,) = rows_of(runtime, tenant_id, Delivery, event_id=event)
        assert (row.status, row.attempt) == ("pending", 0)

    def test_trying_a_configuration_out_asks_all_the_same_and_closes_it(
        self, runtime: Runtime, tenant_id: str, receiver: HttpReceiver
    ) -> None:
        receiver.default = Answer(503)
        name = self.open_by(runtime, tenant_id, receiver.url("/"))
        endpoint = add_endpoint(runtime, tenant_id, receiver.url("/"))
        assert trials.try_webhook(runtime, tenant_id, endpoint, "a.b")["status_code"] == 503
        assert states(runtime)[name].openings == 1
        receiver.default = Answer(204)
        assert trials.try_webhook(runtime, tenant_id, endpoint, "a.b")["status_code"] == 204
        assert not states(runtime)


class TestExpiry:
    """What is late is not sent, and says why."""

    def test_a_late_delivery_is_skipped_without_a_try(self, runtime: Runtime, tenant_id: str) -> None:
        provider = Scripted(Channel.SMS)
        house = with_providers(runtime, provider)
        late, timely = texts(house, tenant_id, 2)
        with runtime.db.transaction(system(Purpose.MIGRATE)) as session:
            for delivery_id, seconds in ((late, -1), (timely, 60)):
                moment = runtime.clock.now() + timedelta(seconds=seconds)
                session.execute(update(Delivery).where(Delivery.id == delivery_id).values(expires_at=moment))
        drain(house)
        assert provider.began == [timely]
        made = {row.id: row for row in rows_of(house, tenant_id, Delivery)}
        assert (made[late].status, made[late].reason, made[late].tries) == ("skipped", "expired", 0)
        assert made[timely].status == "sent"
        assert {row.outcome for row in rows_of(house, tenant_id, Attempt, delivery_id=late)} == {"skipped"}


@pytest.mark.parametrize("shape", ["embedded"], indirect=True)  # whose user may make a trigger
def test_a_table_that_cannot_be_written_keeps_back_no_result(runtime: Runtime, tenant_id: str) -> None:
    provider = Scripted(Channel.SMS, refuse)
    house = with_providers(runtime, provider)
    texts(house, tenant_id, 6)
    with house.db.transaction(system(Purpose.MIGRATE)) as session:
        session.execute(text("CREATE TRIGGER shut BEFORE INSERT ON breakers BEGIN SELECT raise(ABORT, 'shut'); END"))
    send.deliver(house, Lane.TRANSACTIONAL)
    # the results are on record, and the rest of the batch was spared all the same
    assert found(house, tenant_id) == {("pending", 1): FAILURES, ("pending", 0): 6 - FAILURES}
