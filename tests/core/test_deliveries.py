"""What becomes of one delivery: claims, fences, retries, lost workers, later words, and hands on it."""

from __future__ import annotations

import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import update
from sqlalchemy.exc import SQLAlchemyError

from app.broker import Bell
from app.config import Settings
from app.core import pipeline, sweeps
from app.core.deliveries import claims, content, event_claims, gates, outcome, repair, send, status, turns
from app.core.deliveries.gates import Room
from app.core.deliveries.outcome import Tried
from app.core.deliveries.recorder import Recorder
from app.core.deliveries.schedule import SCHEDULES, delay_after, schedule_for
from app.core.outbox import Lane
from app.core.pipeline import EventInput
from app.core.runtime import Runtime
from app.errors import ConflictError, NotFoundError
from app.ids import new_id
from app.models import Attempt, Delivery, DeliveryContent, Event, Tenant, WebhookAttempt, WebhookConfiguration
from app.running.worker import hangs
from app.tenancy import Purpose, system, tenant
from providers.contract import (
    Accepted,
    Channel,
    DeliveryStatus,
    OutboundMessage,
    Result,
    RetryableError,
    StatusUpdate,
)
from tests.conftest import make_due, wait_until
from tests.core.helpers import accept, add_endpoint, drain, keep_only, post_direct, rows_of
from tests.core.scripted import Scripted, with_providers
from tests.servers.http import Answer, HttpReceiver, hang


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with HttpReceiver() as server:
        yield server


def in_app(runtime: Runtime, tenant_id: str, user: str = "ada") -> str:
    return post_direct(runtime, tenant_id, Channel.IN_APP, user, title="Hello", text="Words")


def claim(runtime: Runtime, tenant_id: str, delivery_id: str, lease_seconds: float = 60) -> claims.Claim:
    with runtime.db.transaction(tenant(tenant_id)) as session:
        (made,) = claims.claim_these(session, tenant_id, [delivery_id], runtime.clock.now(), lease_seconds)
    return made


def record(runtime: Runtime, tenant_id: str, *tried: Tried) -> None:
    with runtime.db.transaction(tenant(tenant_id)) as session:
        outcome.record(session, runtime, tenant_id, tried, random.Random(1))


def delivery(runtime: Runtime, tenant_id: str, delivery_id: str) -> Delivery:
    (found,) = rows_of(runtime, tenant_id, Delivery, id=delivery_id)
    return found


def expire(runtime: Runtime, tenant_id: str) -> None:
    """Let every lease run out, and the sweep find it."""
    past = runtime.clock.now() - timedelta(hours=1)
    with runtime.db.transaction(tenant(tenant_id)) as session:
        for model, running in ((Delivery, "sending"), (Event, "planning")):
            mine = update(model).where(model.tenant_id == tenant_id, model.status == running)
            session.execute(mine.values(lease_until=past))
    sweeps.sweep(runtime)


def test_a_delivery_is_claimed_by_one_worker_only(runtime: Runtime, tenant_id: str) -> None:
    delivery_id = in_app(runtime, tenant_id)
    claim(runtime, tenant_id, delivery_id)
    with runtime.db.transaction(tenant(tenant_id)) as session:
        assert claims.claim_these(session, tenant_id, [delivery_id], runtime.clock.now(), 60) == []


def test_a_late_success_is_not_discarded(runtime: Runtime, tenant_id: str) -> None:
    # given a claim whose lease ran out while the provider was slow
    delivery_id = in_app(runtime, tenant_id)
    slow = claim(runtime, tenant_id, delivery_id)
    expire(runtime, tenant_id)
    assert delivery(runtime, tenant_id, delivery_id).status == "pending"
    # when its success comes after all, before anybody claimed again
    record(runtime, tenant_id, Tried(slow, "in_app", Accepted(status=DeliveryStatus.DELIVERED)))
    # then it counts
    assert delivery(runtime, tenant_id, delivery_id).status == "delivered"


def test_a_result_of_an_older_attempt_does_not_touch_the_newer(runtime: Runtime, tenant_id: str) -> None:
    # given a delivery that was claimed again after its worker was lost
    delivery_id = in_app(runtime, tenant_id)
    old = claim(runtime, tenant_id, delivery_id)
    expire(runtime, tenant_id)
    claim(runtime, tenant_id, delivery_id)
    # when the first worker comes back with a failure
    record(runtime, tenant_id, Tried(old, "in_app", RetryableError("timeout")))
    # then the second goes on undisturbed, and the first attempt is still on record
    found = delivery(runtime, tenant_id, delivery_id)
    assert (found.status, found.attempt) == ("sending", 2)
    first, second = sorted(rows_of(runtime, tenant_id, Attempt), key=lambda attempt: attempt.number)
    assert (first.outcome, second.outcome) == ("retryable", None)


def test_the_third_lost_worker_is_a_deliverys_end(runtime: Runtime, tenant_id: str) -> None:
    delivery_id = in_app(runtime, tenant_id)
    for _ in range(2):
        claim(runtime, tenant_id, delivery_id)
        expire(runtime, tenant_id)
        found = delivery(runtime, tenant_id, delivery_id)
        assert (found.status, found.turn) == ("pending", claims.SUSPECT)
    claim(runtime, tenant_id, delivery_id)
    expire(runtime, tenant_id)
    found = delivery(runtime, tenant_id, delivery_id)
    assert (found.status, found.reason) == ("failed", "worker_lost")
    assert [attempt.outcome for attempt in rows_of(runtime, tenant_id, Attempt)] == ["lost", "lost", "lost"]


def test_a_process_tries_one_suspect_at_a_time(runtime: Runtime, tenant_id: str) -> None:
    # given two deliveries whose worker was lost, and a fresh one
    provider = Scripted(Channel.SMS)
    house = with_providers(runtime, provider)
    first, second = (post_direct(house, tenant_id, Channel.SMS, f"+1500555000{n}", text="Words") for n in (1, 2))
    for suspect in (first, second):
        claim(runtime, tenant_id, suspect)
    expire(runtime, tenant_id)
    # when another thread of the process looks for work while one of the two is being tried
    under_way: list[set[str]] = []

    def try_it(message: OutboundMessage) -> Accepted:
        if message.delivery_id in (first, second) and len(under_way) < 3:
            fresh = post_direct(house, tenant_id, Channel.SMS, "+15005550003", text="Words")
            begun = len(provider.began)
            send.deliver(house, Lane.TRANSACTIONAL)
            send.deliver(house, Lane.TRANSACTIONAL)
            under_way.append({"suspect" if one != fresh else "fresh" for one in provider.began[begun:]})
        return Accepted("id")

    provider.act = try_it
    drain(house)
    # then it finds the fresh one, and never the other suspect, which has its turn afterwards
    assert under_way == [{"fresh"}, {"fresh"}]
    assert {row.status for row in rows_of(runtime, tenant_id, Delivery)} == {"sent"}


def test_a_batch_that_never_ends_is_noticed(runtime: Runtime, tenant_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a batch under way
    with Room(runtime, Lane.NORMAL) as room:
        assert room.enter(Channel.EMAIL, tenant_id)
        assert not hangs(runtime)
        # when the time has passed in which every job is over
        later = time.monotonic() + send.time_limit_seconds(runtime) + 60
        with monkeypatch.context() as patch:
            patch.setattr(time, "monotonic", lambda: later)
            # then it is known to hang, until it ends after all
            assert hangs(runtime)
            room.give_back(Channel.EMAIL)
            assert not hangs(runtime)


def test_a_suspect_that_hangs_does_not_keep_the_others_for_ever(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gates, "ALONE_SECONDS", 0.0)
    with Room(runtime, Lane.NORMAL) as hanging, Room(runtime, Lane.NORMAL) as other:
        assert hanging.enter_alone()
        assert other.enter_alone()
        assert not hanging.leave_alone()  # it comes back too late to free anything
        assert other.leave_alone()


def test_a_suspect_is_tried_alone_and_after_the_others(runtime: Runtime, tenant_id: str) -> None:
    # given one delivery whose worker was lost, and two fresh ones
    suspect = in_app(runtime, tenant_id, "suspect")
    claim(runtime, tenant_id, suspect)
    expire(runtime, tenant_id)
    for user in ("one", "two"):
        in_app(runtime, tenant_id, user)
    # when a worker asks twice
    batches = []
    for _ in range(2):
        with runtime.db.transaction(tenant(tenant_id)) as session:
            due = claims.due(session, Lane.TRANSACTIONAL, (tenant_id, "in_app"), runtime.clock.now())
            taken = claims.claim_these(session, tenant_id, [one.id for one in due], runtime.clock.now(), 60)
        batches.append({claimed.user_id for claimed in taken})
    assert batches == [{"one", "two"}, {"suspect"}]


def test_a_busy_tenant_does_not_starve_its_suspects(runtime: Runtime, tenant_id: str) -> None:
    # given a suspect and more first attempts than are ever done
    suspect = in_app(runtime, tenant_id, "suspect")
    claim(runtime, tenant_id, suspect)
    expire(runtime, tenant_id)
    # when as many batches are sent as a suspect may wait for
    for _ in range(turns.SUSPECTS_EVERY):
        in_app(runtime, tenant_id, "busy")
        send.deliver(runtime, Lane.TRANSACTIONAL)
    # then it was among them
    assert delivery(runtime, tenant_id, suspect).status == "delivered"


def test_a_busy_tenant_does_not_starve_its_retries(
    runtime: Runtime, tenant_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a retry that is due and more first attempts than are ever done
    monkeypatch.setattr(turns, "BATCH", 1)
    late = in_app(runtime, tenant_id, "late")
    record(runtime, tenant_id, Tried(claim(runtime, tenant_id, late), "in_app", RetryableError("timeout")))
    make_due(runtime)
    # when as many batches are sent as a retry may wait for
    for _ in range(2 * turns.RETRIES_EVERY + 1):
        in_app(runtime, tenant_id, "busy")
        send.deliver(runtime, Lane.TRANSACTIONAL)
    # then it was among them
    assert delivery(runtime, tenant_id, late).status == "delivered"


def test_with_the_queue_away_the_sweep_does_the_work_itself(
    runtime: Runtime, tenant_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_only(runtime, tenant_id, "in_app")
    monkeypatch.setattr(Bell, "ring", lambda *_: False)
    (event_id,) = accept(runtime, tenant_id, EventInput("order.created", user_ids=("ada",)))
    waiting = in_app(runtime, tenant_id)
    sweeps.sweep(runtime)
    assert delivery(runtime, tenant_id, waiting).status == "delivered"
    assert [row.status for row in rows_of(runtime, tenant_id, Delivery, event_id=event_id, channel="in_app")] == [
        "delivered"
    ]


def test_first_attempts_come_before_late_retries(runtime: Runtime, tenant_id: str) -> None:
    late = in_app(runtime, tenant_id, "late")
    record(runtime, tenant_id, Tried(claim(runtime, tenant_id, late), "in_app", RetryableError("timeout")))
    make_due(runtime)
    fresh = in_app(runtime, tenant_id, "fresh")
    with runtime.db.transaction(tenant(tenant_id)) as session:
        (first,) = claims.due(session, Lane.TRANSACTIONAL, (tenant_id, "in_app"), runtime.clock.now(), 1)
    assert first.id == fresh


def test_a_delivery_given_back_has_not_used_up_a_try(runtime: Runtime, tenant_id: str) -> None:
    delivery_id = in_app(runtime, tenant_id)
    record(runtime, tenant_id, Tried(claim(runtime, tenant_id, delivery_id), None, None))
    found = delivery(runtime, tenant_id, delivery_id)
    assert (found.status, found.attempt, found.tries, found.turn) == ("pending", 1, 0, claims.FIRST)


def test_a_webhook_is_tried_again_until_its_schedule_ends(
    runtime: Runtime, tenant_id: str, receiver: HttpReceiver
) -> None:
    # given a receiver that never takes it
    receiver.default = Answer(500, body=b"broken \x00 here")
    add_endpoint(runtime, tenant_id, receiver.url("/"))
    accept(runtime, tenant_id, EventInput("invoice.paid"))
    pipeline.plan_events(runtime, Lane.NORMAL)
    # when all the time of the schedule passes
    for _ in range(len(SCHEDULES[Channel.WEBHOOK])):
        make_due(runtime)
        drain(runtime)
    # then it has failed with its reason, every attempt on record, the same id and the same bytes each time
    (found,) = rows_of(runtime, tenant_id, Delivery)
    assert (found.status, found.reason, found.tries) == ("failed", "http_500", 8)
    assert [log.status_code for log in rows_of(runtime, tenant_id, WebhookAttempt)] == [500] * 8
    assert {(got.headers["webhook-id"], got.body) for got in receiver.ledger} == {(found.id, receiver.ledger[0].body)}


def test_a_receiver_that_is_gone_is_disabled(runtime: Runtime, tenant_id: str, receiver: HttpReceiver) -> None:
    receiver.default = Answer(410)
    endpoint = add_endpoint(runtime, tenant_id, receiver.url("/"))
    accept(runtime, tenant_id, EventInput("invoice.paid"))
    pipeline.plan_events(runtime, Lane.NORMAL)
    (found,) = rows_of(runtime, tenant_id, WebhookConfiguration, id=endpoint)
    assert (found.enabled, found.disabled_reason) == (False, "gone")
    assert [row.status for row in rows_of(runtime, tenant_id, Delivery)] == ["failed"]


def test_one_hanging_receiver_holds_back_no_other_channel(
    runtime: Runtime, tenant_id: str, receiver: HttpReceiver
) -> None:
    # given an event for the bell and for a receiver that takes its time
    keep_only(runtime, tenant_id, "in_app")
    receiver.default = Answer(204, delay_s=0.5)
    add_endpoint(runtime, tenant_id, receiver.url("/"))
    accept(runtime, tenant_id, EventInput("order.created", user_ids=("ada",)))
    pipeline.plan_events(runtime, Lane.NORMAL)
    # then the bell rang before the receiver had answered
    times = {row.channel: row.delivered_at for row in rows_of(runtime, tenant_id, Delivery)}
    assert times["in_app"] < times["webhook"]


def test_later_words_of_the_provider_count_by_rank_and_not_by_order(runtime: Runtime, tenant_id: str) -> None:
    delivery_id = in_app(runtime, tenant_id)
    claimed = claim(runtime, tenant_id, delivery_id)
    # given a callback that overtakes our own record
    assert status.apply(runtime, StatusUpdate(DeliveryStatus.DELIVERED, delivery_id=delivery_id))
    record(runtime, tenant_id, Tried(claimed, "twilio", Accepted("SM1")))
    found = delivery(runtime, tenant_id, delivery_id)
    assert (found.status, found.provider_id) == ("delivered", "SM1")
    assert found.sent_at
    # when a late `sent` comes, it does not cover `delivered`; a complaint does
    status.apply(runtime, StatusUpdate(DeliveryStatus.SENT, delivery_id=delivery_id))
    assert delivery(runtime, tenant_id, delivery_id).status == "delivered"
    status.apply(runtime, StatusUpdate(DeliveryStatus.COMPLAINED, delivery_id=delivery_id))
    assert delivery(runtime, tenant_id, delivery_id).status == "complained"


def test_when_something_happened_is_not_moved_by_a_later_word(runtime: Runtime, tenant_id: str) -> None:
    delivery_id = in_app(runtime, tenant_id)
    record(runtime, tenant_id, Tried(claim(runtime, tenant_id, delivery_id), "twilio", Accepted("SM1")))
    first = delivery(runtime, tenant_id, delivery_id).sent_at
    status.apply(runtime, StatusUpdate(DeliveryStatus.DELIVERED, delivery_id=delivery_id))
    delivered = delivery(runtime, tenant_id, delivery_id).delivered_at
    for said in (DeliveryStatus.SENT, DeliveryStatus.DELIVERED):
        status.apply(runtime, StatusUpdate(said, delivery_id=delivery_id))
    found = delivery(runtime, tenant_id, delivery_id)
    assert (found.sent_at, found.delivered_at) == (first, delivered)


def test_a_callback_for_a_delivery_that_nobody_knows_is_harmless(runtime: Runtime, tenant_id: str) -> None:
    unknown = "01a1f7b6-e479-7729-99bf-5cb48ee175b3"
    assert not status.apply(runtime, StatusUpdate(DeliveryStatus.SENT, delivery_id=unknown))
    assert not status.apply(runtime, StatusUpdate(DeliveryStatus.SENT, delivery_id="' OR 1=1"))


def test_a_canceled_delivery_is_not_sent_unless_it_was_already_on_the_wire(runtime: Runtime, tenant_id: str) -> None:
    # given one that waits and one that is on the wire
    waiting, flying = in_app(runtime, tenant_id), in_app(runtime, tenant_id)
    claimed = claim(runtime, tenant_id, flying)
    with runtime.db.transaction(tenant(tenant_id)) as session:
        repair.cancel(session, runtime, tenant_id, waiting)
        repair.cancel(session, runtime, tenant_id, flying)
    # when
    drain(runtime)
    record(runtime, tenant_id, Tried(claimed, "in_app", Accepted(status=DeliveryStatus.SENT)))
    # then
    assert delivery(runtime, tenant_id, waiting).status == "canceled"
    assert delivery(runtime, tenant_id, flying).status == "sent"


def test_retry_by_hand_begins_the_schedule_anew_and_only_where_it_makes_sense(runtime: Runtime, tenant_id: str) -> None:
    delivery_id = in_app(runtime, tenant_id)
    for _ in range(len(SCHEDULES[Channel.IN_APP]) + 1):
        record(runtime, tenant_id, Tried(claim(runtime, tenant_id, delivery_id), "in_app", RetryableError("timeout")))
    assert delivery(runtime, tenant_id, delivery_id).status == "failed"
    with runtime.db.transaction(tenant(tenant_id)) as session:
        repair.retry(session, runtime, tenant_id, delivery_id)
    drain(runtime)
    assert delivery(runtime, tenant_id, delivery_id).status == "delivered"
    with runtime.db.transaction(tenant(tenant_id)) as session, pytest.raises(ConflictError):
        repair.retry(session, runtime, tenant_id, delivery_id)
    with runtime.db.transaction(tenant(tenant_id)) as session, pytest.raises(NotFoundError):
        repair.cancel(session, runtime, tenant_id, "01a1f7b6-e479-7729-99bf-5cb48ee175b3")


def test_a_lost_planner_leaves_an_event_that_is_planned_alone_and_fails_in_the_end(
    runtime: Runtime, tenant_id: str
) -> None:
    (event_id,) = accept(runtime, tenant_id, EventInput("invoice.paid"))
    for _ in range(event_claims.MOST_FAILURES):
        with runtime.db.transaction(tenant(tenant_id)) as session:
            assert event_claims.claim(session, Lane.NORMAL, tenant_id, runtime.clock.now())
        expire(runtime, tenant_id)
    (event,) = rows_of(runtime, tenant_id, Event, id=event_id)
    assert (event.status, event.error) == ("failed", "worker_lost")


def test_the_worker_hears_the_bell_and_the_sweep_finds_what_no_bell_rang_for(
    runtime: Runtime, tenant_id: str, worker: object
) -> None:
    # given one delivery whose bell rings, and one whose ring is lost
    heard = in_app(runtime, tenant_id)
    wait_until(lambda: delivery(runtime, tenant_id, heard).status == "delivered")
    bell, runtime.db.bell = runtime.db.bell, None
    forgotten = in_app(runtime, tenant_id)
    runtime.db.bell = bell
    sweeps.ring_for_due(runtime)
    wait_until(lambda: delivery(runtime, tenant_id, forgotten).status == "delivered")


def test_every_short_retry_is_rung_for_when_it_is_due(
    runtime: Runtime, tenant_id: str, receiver: HttpReceiver, worker: object
) -> None:
    # given two receivers that fail once, and a schedule shorter than the sweep's
    house_schedule = schedule_for(Channel.WEBHOOK, runtime.settings)
    assert house_schedule[0] < runtime.settings.sweep_seconds
    for path in ("/one", "/two"):
        receiver.on(path, Answer(500), Answer(204))
        add_endpoint(runtime, tenant_id, receiver.url(path), (f"order.{path[1:]}",))
    # when their events come one shortly after the other
    accept(runtime, tenant_id, EventInput("order.one"))
    wait_until(lambda: len(receiver.ledger) == 1)
    accept(runtime, tenant_id, EventInput("order.two"))
    # then each is tried again at its own time, and not at the sweep's
    wait_until(lambda: len(rows_of(runtime, tenant_id, Delivery, channel="webhook", status="delivered")) == 2)
    gaps = []
    for path in ("/one", "/two"):
        first, second = [got.at for got in receiver.ledger if got.path == path]
        gaps.append(second - first)
    assert max(gaps) < runtime.settings.sweep_seconds


@pytest.fixture
def make_settings() -> Callable[..., Settings]:
    return lambda **values: Settings(**values, webhook_retry_delay=200, webhook_max_retries=7, sweep_seconds=20)


class TestSchedule:
    """Retries are data, with an end."""

    def test_a_provider_that_asks_for_more_patience_gets_up_to_twice_ours(self) -> None:
        chance = random.Random(7)
        assert 20 <= delay_after([10.0], 1, 3600, chance) <= 22
        assert 10 <= delay_after([10.0], 1, 1, chance) <= 11
        assert delay_after([10.0], 2, None, chance) is None

    def test_webhook_settings_replace_the_schedule(self) -> None:
        assert list(schedule_for(Channel.WEBHOOK, Settings(webhook_retry_delay=100, webhook_max_retries=3))) == [
            0.1,
            0.2,
            0.4,
        ]
        assert len(schedule_for(Channel.WEBHOOK, Settings(webhook_max_retries=2))) == 2
        assert list(schedule_for(Channel.WEBHOOK, Settings())) == [5, 300, 1800, 7200, 18000, 36000, 36000]


def test_two_tenants_take_turns(runtime: Runtime, tenant_id: str) -> None:
    # given a tenant with much to do and one with little
    with runtime.db.transaction(system(Purpose.MIGRATE)) as session:
        other = Tenant(name="other", webhook_secret=runtime.vault.seal("x"), created_at=runtime.clock.now())
        session.add(other)
        session.flush()
    for _ in range(3):
        in_app(runtime, tenant_id)
    in_app(runtime, other.id)
    # when a worker takes two batches
    send.deliver(runtime, Lane.TRANSACTIONAL)
    send.deliver(runtime, Lane.TRANSACTIONAL)
    # then both were served
    assert not rows_of(runtime, tenant_id, Delivery, status="pending")
    assert not rows_of(runtime, other.id, Delivery, status="pending")


def test_a_row_that_breaks_its_batch_harms_only_itself_and_sends_nothing_in_a_loop(
    runtime: Runtime, tenant_id: str
) -> None:
    # given a provider that breaks at one message, in the middle of a batch
    def act(message: OutboundMessage) -> Accepted:
        if message.delivery_id == poisoned:
            raise OSError("broken")
        return Accepted("id")

    provider = Scripted(Channel.SMS, act)
    house = with_providers(runtime, provider)
    ids = [post_direct(house, tenant_id, Channel.SMS, f"+1500555000{n}", text="Words") for n in range(6)]
    poisoned = ids[3]
    # when the batch is sent, and what is due as often as its schedule has it
    for _ in range(12 * len(SCHEDULES[Channel.SMS])):
        send.deliver(house, Lane.TRANSACTIONAL)
        make_due(runtime)
    # then the others are sent once, and the one has failed after the tries of its schedule
    found = {row.id: row for row in rows_of(runtime, tenant_id, Delivery)}
    assert {row.status for row in found.values() if row.id != poisoned} == {"sent"}
    assert (found[poisoned].status, found[poisoned].reason) == ("failed", "internal_error")
    assert Counter(provider.began)[poisoned] == len(SCHEDULES[Channel.SMS]) + 1
    assert {Counter(provider.began)[i] for i in ids if i != poisoned} == {1}


def test_what_a_provider_did_not_begin_by_the_deadline_is_given_back_unharmed(runtime: Runtime, tenant_id: str) -> None:
    class Lazy(Scripted):
        def send_batch(self, messages: Iterable[OutboundMessage], deadline: float) -> Iterator[Result]:
            return super().send_batch(list(messages)[:1], deadline)

    house = with_providers(runtime, Lazy(Channel.SMS, lambda _: Accepted("id")))
    ids = [post_direct(house, tenant_id, Channel.SMS, f"+1500555000{n}", text="Words") for n in range(3)]
    send.deliver(house, Lane.TRANSACTIONAL)
    found = {row.id: row for row in rows_of(runtime, tenant_id, Delivery)}
    assert Counter((found[i].status, found[i].tries) for i in ids) == {("sent", 1): 1, ("pending", 0): 2}


def test_a_result_that_the_database_refuses_is_kept_without_its_details_and_keeps_back_no_other(
    runtime: Runtime, tenant_id: str
) -> None:
    first, second = (in_app(runtime, tenant_id, user) for user in ("one", "two"))
    odd = Accepted("odd", detail={"bytes": 10**400})  # no JSON number of any database
    results = [
        Tried(claim(runtime, tenant_id, first), "in_app", odd),
        Tried(claim(runtime, tenant_id, second), "in_app", Accepted("fine")),
    ]
    recorder = Recorder(runtime, tenant_id, threaded=False, until=time.monotonic() + 5)
    for tried in results:
        recorder.add(tried)
    recorder.close()
    assert {row.status for row in rows_of(runtime, tenant_id, Delivery)} == {"sent"}


def test_a_result_that_cannot_be_written_at_all_keeps_back_no_other(runtime: Runtime, tenant_id: str) -> None:
    ids = [in_app(runtime, tenant_id, f"user-{number}") for number in range(3)]
    claimed = [claim(runtime, tenant_id, delivery_id) for delivery_id in ids]
    hopeless = replace(claimed[1], attempt=10**30)  # no integer of any database
    recorder = Recorder(runtime, tenant_id, threaded=False, until=time.monotonic() + 5)
    for one in (claimed[0], hopeless, claimed[2]):
        recorder.add(Tried(one, "in_app", Accepted("fine")))
    with contextlib.suppress(SQLAlchemyError):
        recorder.close()
    assert [delivery(runtime, tenant_id, i).status for i in (ids[0], ids[2])] == ["sent", "sent"]


def test_a_failure_told_before_the_acceptance_is_on_record_stays(runtime: Runtime, tenant_id: str) -> None:
    delivery_id = in_app(runtime, tenant_id)
    claimed = claim(runtime, tenant_id, delivery_id)
    status.apply(runtime, StatusUpdate(DeliveryStatus.FAILED, delivery_id=delivery_id, reason="twilio_30006"))
    record(runtime, tenant_id, Tried(claimed, "twilio", Accepted("SM1")))
    found = delivery(runtime, tenant_id, delivery_id)
    assert (found.status, found.reason, found.provider_id) == ("failed", "twilio_30006", "SM1")
    assert found.sent_at


def test_a_channel_holds_half_of_a_lanes_threads_and_the_others_go_on(
    runtime: Runtime, tenant_id: str, receiver: HttpReceiver, worker: object
) -> None:
    # given many events for a receiver that never answers
    keep_only(runtime, tenant_id, "in_app")
    receiver.default = hang()
    add_endpoint(runtime, tenant_id, receiver.url("/"))
    for number in range(20):
        accept(runtime, tenant_id, EventInput("order.created", data={"n": number}, user_ids=("ada",)))
    # then the bell has all of them while the receiver still hangs
    wait_until(lambda: len(rows_of(runtime, tenant_id, Delivery, channel="in_app", status="delivered")) == 20)
    assert not rows_of(runtime, tenant_id, Delivery, channel="webhook", status="delivered")


def test_contents_too_large_for_one_statement_go_in_several(runtime: Runtime, tenant_id: str) -> None:
    large = "\u4e2d" * 3_000_000
    ids = [post_direct(runtime, tenant_id, Channel.IN_APP, "ada", title="t", text=large) for _ in range(1)]
    with runtime.db.transaction(tenant(tenant_id)) as session:
        made = {new_id(): {"text": large} for _ in range(4)}
        content.keep(session, tenant_id, made, runtime.clock.now())
    assert len(rows_of(runtime, tenant_id, DeliveryContent)) == 4 + len(ids)
