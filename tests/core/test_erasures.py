"""A person is removed everywhere, and a receipt says so."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from app import rows
from app.config import Settings
from app.core import erasures, pipeline, recipients, sweeps, topics
from app.core.deliveries import claims, content, event_claims, outcome, pages, repair, send
from app.core.deliveries.drafts import new_row
from app.core.direct import DirectSend, send_direct
from app.core.erasures import steps
from app.core.erasures.redaction import cleaned, words_of
from app.core.erasures.work import Work
from app.core.outbox import Lane
from app.core.pipeline import EventInput, plan_events
from app.core.runtime import Runtime
from app.errors import ConflictError
from app.ids import new_id
from app.models import (
    Attempt,
    Base,
    Delivery,
    DeliveryContent,
    Erasure,
    Event,
    EventDedupe,
    InAppNotification,
    Recipient,
    TopicRecipient,
    WebhookAttempt,
)
from app.running.worker import InProcessWorker
from app.tenancy import Purpose, system, tenant
from providers.contract import Accepted, Channel, DeliveryStatus, RetryableError
from tests.conftest import make_due, wait_until
from tests.core.helpers import ORDER, accept, add_endpoint, drain, post_direct, rows_of

MARKS = {
    "user_id": "marked-user-7731",
    "name": "Zebulon Markworth",
    "email": "zebulon.markworth@example.com",
    "phone": "+4915177317731",
    "attributes": {"badge": "MARK-BADGE-7731"},
}
USER = str(MARKS["user_id"])
TEXTS = (USER, "Zebulon", "zebulon.markworth", "+4915177317731", "MARK-BADGE-7731", "Marked words")
BOB = {"user_id": "bob", "email": "bob@example.com"}


@pytest.fixture
def make_settings() -> Callable[..., Settings]:
    """A mail server that refuses the connection: mail waits for its next try."""
    return lambda **values: Settings(email_host="127.0.0.1", email_port=1, **values)


def erase(runtime: Runtime, tenant_id: str, user_id: str = USER, seconds: float = 60) -> Erasure:
    return erasures.erase(runtime, tenant_id, user_id, seconds=seconds)


def plan_all(runtime: Runtime) -> None:
    for lane in Lane:
        while plan_events(runtime, lane):
            pass


def told(runtime: Runtime, tenant_id: str) -> set[str]:
    """The people who have a delivery."""
    return {row.user_id for row in rows_of(runtime, tenant_id, Delivery) if row.user_id}


def live_a_little(runtime: Runtime, tenant_id: str) -> dict[str, str]:
    """The marked person has everything that a person can have. Returns the ids of events."""
    with runtime.db.transaction(tenant(tenant_id)) as session:
        topics.add(session, runtime.clock, tenant_id, "news", [USER, "bob"])
        recipients.upsert(session, runtime.clock, tenant_id, [MARKS, BOB])
    data = ORDER | {"note": "Marked words", "who": MARKS["name"], "mail": MARKS["email"]}
    alone, shared, listed, mentioned = accept(
        runtime,
        tenant_id,
        EventInput("order.created", data, (USER,)),
        EventInput("order.created", ORDER | {"by": str(MARKS["email"]).upper(), "tel": MARKS["phone"]}, (USER, "bob")),
        EventInput("order.created", ORDER, topics=("news",)),
        EventInput("order.created", ORDER | {"cc": [MARKS["email"], "x@example.com"]}, ("bob",)),
    )
    plan_all(runtime)
    with runtime.db.transaction(tenant(tenant_id)) as session:
        words = {"subject": "Marked words", "text": f"Dear {MARKS['name']}"}
        for message in (
            DirectSend(Channel.EMAIL, (str(MARKS["email"]),), words),
            DirectSend(Channel.EMAIL, (str(MARKS["email"]),), words, user_id=USER),
            DirectSend(Channel.SMS, (str(MARKS["phone"]),), {"text": "Marked words"}),
            DirectSend(Channel.IN_APP, (USER,), {"title": "Marked words", "text": "Zebulon!"}),
        ):
            send_direct(session, runtime, tenant_id, message)
    drain(runtime)
    return {"alone": alone, "shared": shared, "listed": listed, "mentioned": mentioned}


def dump(runtime: Runtime) -> str:
    """Every row of every table as text."""
    found = []
    with runtime.db.transaction(system(Purpose.MIGRATE)) as session:
        for table in Base.metadata.sorted_tables:
            found += [f"{table.name} {tuple(row)}" for row in session.execute(select(table))]
    return "\n".join(found)


def test_after_an_erasure_no_table_holds_anything_of_the_person(runtime: Runtime, tenant_id: str) -> None:
    # given a person who has everything
    made = live_a_little(runtime, tenant_id)
    before = dump(runtime)
    assert all(mark in before for mark in TEXTS)
    # when they are erased
    receipt = erase(runtime, tenant_id)
    # then nothing is left of them in any table
    after = dump(runtime)
    assert [line for line in after.split("\n") if any(mark.lower() in line.lower() for mark in TEXTS)] == []
    # and the receipt says how much there was
    assert receipt.finished_at is not None
    assert receipt.progress is None
    assert receipt.counts.keys() >= {"recipients", "topic_recipients", "event_logs", "notification_logs"}
    assert receipt.counts["notification_logs"] == len(rows_of(runtime, tenant_id, Delivery, reason="erased"))
    # and others have what they had
    (bob,) = rows_of(runtime, tenant_id, Recipient)
    assert bob.email == "bob@example.com"
    events = {event.id: event for event in rows_of(runtime, tenant_id, Event)}
    assert (events[made["alone"]].user_ids, events[made["alone"]].data) == ([], {})
    assert events[made["shared"]].user_ids == ["bob"]
    assert events[made["shared"]].data == ORDER | {"by": "[erased]", "tel": "[erased]"}
    assert events[made["listed"]].data == ORDER
    assert events[made["mentioned"]].data == ORDER | {"cc": ["x@example.com"]}
    assert len(rows_of(runtime, tenant_id, InAppNotification, user_id="bob")) == 3
    # and what was counted is counted still
    assert len(rows_of(runtime, tenant_id, Delivery, event_id=made["alone"])) >= 3


class TestFile:
    @pytest.fixture
    def shape(self) -> str:
        return "embedded"

    def test_the_file_of_sqlite_holds_nothing_of_the_person(self, runtime: Runtime, tenant_id: str) -> None:
        live_a_little(runtime, tenant_id)
        erase(runtime, tenant_id)
        for path in Path(runtime.db.url.database or "").parent.glob("tidings.db*"):
            held = path.read_bytes().lower()
            assert [mark for mark in TEXTS if mark.lower().encode() in held] == [], path.name


def test_an_unknown_person_gets_a_receipt_of_nothing(runtime: Runtime, tenant_id: str) -> None:
    receipt = erase(runtime, tenant_id, "nobody")
    assert receipt.finished_at is not None
    assert receipt.counts == {}


def test_a_receipt_is_found_by_the_person_and_does_not_name_them(runtime: Runtime, tenant_id: str) -> None:
    receipt = erase(runtime, tenant_id)
    erase(runtime, tenant_id, "somebody else")
    with runtime.db.transaction(tenant(tenant_id), read_only=True) as session:
        found = erasures.search(session, runtime, tenant_id, erasures.Cursor(), user_id=USER)
        assert [item.id for item in found.items] == [receipt.id]
        assert len(erasures.search(session, runtime, tenant_id, erasures.Cursor(), user_id=None).items) == 2


def test_what_waits_is_called_off_and_never_sent(runtime: Runtime, tenant_id: str) -> None:
    # given a delivery that waits
    post_direct(runtime, tenant_id, Channel.IN_APP, USER, title="t", text="Marked words")
    # when the person is erased, and workers go on
    erase(runtime, tenant_id)
    drain(runtime)
    # then it was not sent
    (found,) = rows_of(runtime, tenant_id, Delivery)
    assert (found.status, found.reason, found.address, found.user_id) == ("canceled", "erased", "", None)
    assert rows_of(runtime, tenant_id, InAppNotification) == []
    # and nobody can try it again
    with pytest.raises(ConflictError), runtime.db.transaction(tenant(tenant_id)) as session:
        repair.retry(session, runtime, tenant_id, found.id)


class BrokenOffError(Exception):
    """The process ended."""


def erase_at_first(runtime: Runtime, tenant_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Erase the person up to where all that is theirs, and then all of the tenant's, would be gone through."""

    def end(_work: Work, _after: str) -> str | None:
        raise BrokenOffError

    monkeypatch.setitem(steps.STEPS, "own", end)
    with pytest.raises(BrokenOffError):
        erase(runtime, tenant_id)


def test_what_waits_is_called_off_before_all_is_looked_through(
    runtime: Runtime, tenant_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given what waits for the person: by name, by their address, in an event for them alone and one for others as well
    with runtime.db.transaction(tenant(tenant_id)) as session:
        recipients.upsert(session, runtime.clock, tenant_id, [MARKS, BOB])
    post_direct(runtime, tenant_id, Channel.IN_APP, USER, title="t", text="Marked words")
    post_direct(runtime, tenant_id, Channel.EMAIL, str(MARKS["email"]), subject="s", text="Marked words")
    accept(
        runtime,
        tenant_id,
        EventInput("order.created", ORDER, (USER.upper(),)),
        EventInput("order.created", ORDER, (USER, "bob")),
        EventInput("order.created", ORDER, (USER,)),
    )
    # when an erasure has only begun, and workers go on
    monkeypatch.setattr(steps, "BATCH", 1)
    erase_at_first(runtime, tenant_id, monkeypatch)
    waiting = rows_of(runtime, tenant_id, Delivery)
    plan_all(runtime)
    drain(runtime)
    # then nothing of it goes to the person
    assert {(row.status, row.reason, row.address) for row in waiting} == {("canceled", "erased", "")}
    assert told(runtime, tenant_id) == {"bob", USER.upper()}
    assert {row.user_id for row in rows_of(runtime, tenant_id, InAppNotification)} == {"bob", USER.upper()}


@pytest.mark.parametrize("event_type", ["order.created", "nobody.has.a.rule"])
def test_what_waits_for_a_webhook_of_an_event_for_the_person_alone_is_called_off_as_early(
    runtime: Runtime, tenant_id: str, monkeypatch: pytest.MonkeyPatch, event_type: str
) -> None:
    # given a subscriber who is told of all events
    add_endpoint(runtime, tenant_id, "http://127.0.0.1:1/hook")
    accept(
        runtime,
        tenant_id,
        EventInput(event_type, ORDER, (USER,)),
        EventInput(event_type, ORDER, ("bob",)),
    )
    plan_all(runtime)
    # when one of them is erased
    erase_at_first(runtime, tenant_id, monkeypatch)
    # then the subscriber is told of the other only
    hooks = rows_of(runtime, tenant_id, Delivery, channel="webhook")
    assert sorted(row.status for row in hooks) == ["canceled", "pending"]
    assert {row.reason for row in hooks if row.status == "canceled"} == {"erased"}


@pytest.mark.parametrize("named", [True, False])
def test_what_is_on_the_wire_is_not_tried_again(
    runtime: Runtime, tenant_id: str, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    # given a delivery to the person, by name or by address, that a worker is sending while they are erased
    channel, to = (Channel.IN_APP, USER) if named else (Channel.EMAIL, str(MARKS["email"]))
    delivery_id = post_direct(runtime, tenant_id, channel, to, title="t", subject="s", text="Marked words")
    with runtime.db.transaction(tenant(tenant_id)) as session:
        recipients.upsert(session, runtime.clock, tenant_id, [MARKS])
        (claim,) = claims.claim_these(session, tenant_id, [delivery_id], runtime.clock.now(), 60)
    erase_at_first(runtime, tenant_id, monkeypatch)
    # when that try fails, and it is time for the next
    with runtime.db.transaction(tenant(tenant_id)) as session:
        tried = outcome.Tried(claim, "one", RetryableError("timeout", "slow"))
        outcome.record(session, runtime, tenant_id, [tried], random.Random(1))
    make_due(runtime)
    drain(runtime)
    # then there is none
    (found,) = rows_of(runtime, tenant_id, Delivery)
    assert (found.status, found.reason) == ("skipped", "expired")
    assert rows_of(runtime, tenant_id, InAppNotification) == []


def test_an_erasure_that_an_older_version_began_is_finished(runtime: Runtime, tenant_id: str) -> None:
    # given a receipt that says in the old way how far it has come
    live_a_little(runtime, tenant_id)
    receipt = erase(runtime, tenant_id, seconds=0)
    with runtime.db.transaction(tenant(tenant_id)) as session:
        stored = session.merge(receipt)
        progress = json.loads(runtime.vault.open(str(stored.progress)))
        old = {"userId": USER, "words": progress["words"], "step": 5, "after": "", "seen": {"1": new_id()}}
        stored.progress = runtime.vault.seal(json.dumps(old))
    # when the sweeps go on, then nothing is left out
    while rows_of(runtime, tenant_id, Erasure)[0].finished_at is None:
        sweeps.sweep(runtime)
    assert not any(mark.lower() in dump(runtime).lower() for mark in TEXTS)


@pytest.fixture
def whole_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """One round of the sweeps finishes what can be finished, however long that takes on a busy machine."""
    monkeypatch.setattr(sweeps, "_HOUSE_SECONDS", 60.0)


@pytest.mark.usefixtures("whole_rounds")
def test_what_is_on_the_wire_is_waited_for_and_brings_nothing_back(runtime: Runtime, tenant_id: str) -> None:
    # given a delivery that a worker is sending
    delivery_id = post_direct(runtime, tenant_id, Channel.EMAIL, str(MARKS["email"]), subject="s", text="Marked words")
    with runtime.db.transaction(tenant(tenant_id)) as session:
        recipients.upsert(session, runtime.clock, tenant_id, [MARKS])
        (claim,) = claims.claim_these(session, tenant_id, [delivery_id], runtime.clock.now(), 60)
    # when the person is erased meanwhile
    receipt = erase(runtime, tenant_id)
    assert receipt.finished_at is None
    assert rows_of(runtime, tenant_id, Recipient) == []
    # and the worker is through
    record(runtime, tenant_id, claim, refused={str(MARKS["email"]): "no such user"})
    sweeps.sweep(runtime)
    # then the sweep has finished it
    (done,) = rows_of(runtime, tenant_id, Erasure)
    assert done.finished_at is not None
    (found,) = rows_of(runtime, tenant_id, Delivery)
    assert (found.status, found.address, found.error) == ("sent", "", None)
    assert "markworth" not in dump(runtime)


def record(runtime: Runtime, tenant_id: str, claim: claims.Claim, **accepted: Any) -> None:
    tried = outcome.Tried(claim, "smtp", Accepted(status=DeliveryStatus.SENT, **accepted))
    with runtime.db.transaction(tenant(tenant_id)) as session:
        outcome.record(session, runtime, tenant_id, [tried], random.Random(1))


def test_a_result_that_comes_after_the_lease_was_lost_brings_nothing_back(runtime: Runtime, tenant_id: str) -> None:
    # given a worker that was taken for dead
    delivery_id = post_direct(runtime, tenant_id, Channel.EMAIL, str(MARKS["email"]), subject="s", text="t")
    with runtime.db.transaction(tenant(tenant_id)) as session:
        recipients.upsert(session, runtime.clock, tenant_id, [MARKS])
        (claim,) = claims.claim_these(session, tenant_id, [delivery_id], runtime.clock.now(), -60)
    sweeps.sweep(runtime)
    # when the person is erased, and then its result comes
    assert erase(runtime, tenant_id).finished_at is not None
    record(runtime, tenant_id, claim, refused={str(MARKS["email"]): "no such user"})
    # then it changes nothing
    (found,) = rows_of(runtime, tenant_id, Delivery)
    assert (found.status, found.error) == ("canceled", None)
    assert "markworth" not in dump(runtime)


def test_a_worker_that_wakes_up_after_the_erasure_brings_nothing_back(runtime: Runtime, tenant_id: str) -> None:
    # given a worker that holds all that the person's messages are made of, and stood still until it was taken for dead
    (event_id,) = accept(runtime, tenant_id, EventInput("order.created", ORDER | {"mail": MARKS["email"]}, (USER,)))
    now = runtime.clock.now()
    about = {"event_id": event_id, "event_type": "order.created", "user_id": USER, "trigger": "event"}
    made = [
        new_row(new_id(), tenant_id, channel, now, Lane.BULK.value, test=False) | about | {"address": address}
        for channel, address in ((Channel.WEBHOOK, "http://127.0.0.1:1/"), (Channel.IN_APP, USER))
    ]
    with runtime.db.work(tenant(tenant_id)) as work:
        rows.insert(work, Delivery, made)
        claimed = claims.claim_these(work, tenant_id, [row["id"] for row in made], now, -60)
        batches = content.load(work, runtime, claimed)
    sweeps.sweep(runtime)
    assert erase(runtime, tenant_id).finished_at is not None
    # when it wakes up, and goes on to its end
    send.send_batches(runtime, batches)
    # then nothing of the person is there
    assert [line for line in dump(runtime).split("\n") if any(mark.lower() in line.lower() for mark in TEXTS)] == []
    for model in (DeliveryContent, InAppNotification, WebhookAttempt, Attempt):
        assert rows_of(runtime, tenant_id, model) == []


def test_an_event_that_was_not_planned_yet_goes_to_the_others(runtime: Runtime, tenant_id: str) -> None:
    # given events that wait for planning, one of them for nobody else
    with runtime.db.transaction(tenant(tenant_id)) as session:
        recipients.upsert(session, runtime.clock, tenant_id, [MARKS, BOB])
    accept(
        runtime,
        tenant_id,
        EventInput("order.created", ORDER, (USER, "bob")),
        EventInput("order.created", ORDER, (USER,)),
    )
    # when the person is erased before
    erase(runtime, tenant_id)
    plan_all(runtime)
    drain(runtime)
    # then only the others are told
    assert told(runtime, tenant_id) == {"bob"}
    assert [event.status for event in rows_of(runtime, tenant_id, Event)] == ["planned", "planned"]


def test_a_page_that_is_being_planned_is_not_written(runtime: Runtime, tenant_id: str) -> None:
    # given an event for three people and a list, one of which is the person, in the hands of a planner
    with runtime.db.transaction(tenant(tenant_id)) as session:
        topics.add(session, runtime.clock, tenant_id, "news", [USER, "bob"])
    accept(
        runtime,
        tenant_id,
        EventInput("order.created", ORDER, (USER, "ada", "carl")),
        EventInput("order.created", ORDER, topics=("news",)),
    )
    with runtime.db.transaction(tenant(tenant_id)) as session:
        claimed = event_claims.claim(session, Lane.NORMAL, tenant_id, runtime.clock.now())
    # when the person is erased
    erase(runtime, tenant_id)
    # then what that planner writes is not taken
    with runtime.db.transaction(tenant(tenant_id)) as session:
        assert event_claims.advance(session, claimed, runtime.clock.now()) == set()
    # and the next one goes on without the person
    plan_all(runtime)
    assert told(runtime, tenant_id) == {"ada", "carl", "bob"}


@pytest.mark.usefixtures("whole_pages")
def test_nobody_is_passed_over_when_a_person_leaves_a_list_that_is_half_planned(
    runtime: Runtime, tenant_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given an event of which the first two of four were planned
    monkeypatch.setattr(pages, "PAGE", 2)
    monkeypatch.setattr(pipeline, "TURN_SECONDS", 0)
    accept(runtime, tenant_id, EventInput("order.created", ORDER, (USER, "ada", "bob", "carl")))
    plan_events(runtime, Lane.NORMAL)
    assert told(runtime, tenant_id) == {USER, "ada"}
    # when the first is erased, and planning goes on
    erase(runtime, tenant_id)
    plan_all(runtime)
    # then everybody else was told
    assert told(runtime, tenant_id) == {"ada", "bob", "carl"}


def test_after_a_crash_a_repeat_finishes_it_with_the_same_receipt(
    runtime: Runtime, tenant_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given an erasure that broke off
    monkeypatch.setattr(steps, "BATCH", 1)
    live_a_little(runtime, tenant_id)
    begun = erase(runtime, tenant_id, seconds=0)
    assert begun.finished_at is None
    assert USER not in str(begun.progress)
    # when it is asked for again
    again = erase(runtime, tenant_id)
    # then it is done, also what the profile had told before it went
    assert (again.id, again.finished_at is not None) == (begun.id, True)
    assert not any(mark.lower() in dump(runtime).lower() for mark in TEXTS)


def test_the_sweep_goes_on_with_what_a_request_left(runtime: Runtime, tenant_id: str) -> None:
    live_a_little(runtime, tenant_id)
    erase(runtime, tenant_id, seconds=0)
    while rows_of(runtime, tenant_id, Erasure)[0].finished_at is None:
        sweeps.sweep(runtime)
    assert not any(mark.lower() in dump(runtime).lower() for mark in TEXTS)


def test_a_person_may_come_again(runtime: Runtime, tenant_id: str) -> None:
    live_a_little(runtime, tenant_id)
    erase(runtime, tenant_id)
    live_a_little(runtime, tenant_id)
    assert len(rows_of(runtime, tenant_id, InAppNotification, user_id=USER)) == 4
    erase(runtime, tenant_id)
    assert len(rows_of(runtime, tenant_id, Erasure)) == 2


@pytest.mark.usefixtures("whole_rounds")
def test_a_person_who_comes_back_meanwhile_is_removed_by_the_next_request(runtime: Runtime, tenant_id: str) -> None:
    # given an erasure that waits for what is on the wire
    old, new = str(MARKS["email"]), "new-mark@example.com"
    delivery_id = post_direct(runtime, tenant_id, Channel.EMAIL, old, subject="s", text="t")
    with runtime.db.transaction(tenant(tenant_id)) as session:
        recipients.upsert(session, runtime.clock, tenant_id, [MARKS])
        (claim,) = claims.claim_these(session, tenant_id, [delivery_id], runtime.clock.now(), 60)
    waiting = erase(runtime, tenant_id)
    assert waiting.finished_at is None
    # when the person comes back with another address, and is erased again
    with runtime.db.transaction(tenant(tenant_id)) as session:
        recipients.upsert(session, runtime.clock, tenant_id, [MARKS | {"email": new}])
        topics.add(session, runtime.clock, tenant_id, "news", [USER])
    accept(runtime, tenant_id, EventInput("order.created", ORDER | {"mail": new}, (USER, "bob")))
    again = erase(runtime, tenant_id)
    # then it is the same receipt, and they are gone, but for what is still on the wire
    assert (again.id, again.finished_at) == (waiting.id, None)
    assert rows_of(runtime, tenant_id, Recipient) + rows_of(runtime, tenant_id, TopicRecipient) == []
    # and when that is through, nothing is left of the old words or the new
    record(runtime, tenant_id, claim)
    sweeps.sweep(runtime)
    assert rows_of(runtime, tenant_id, Erasure)[0].finished_at is not None
    left = dump(runtime)
    assert [word for word in (USER, old, new) if word in left] == []


def test_whoever_asks_again_and_again_does_not_keep_it_from_ending(
    runtime: Runtime, tenant_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given more events than a request looks through
    monkeypatch.setattr(steps, "WINDOW", 1)
    monkeypatch.setattr(erasures, "_LATE", timedelta(0))
    for _ in range(10):
        accept(runtime, tenant_id, EventInput("order.created", ORDER, (USER, "bob")))
    # when the request is repeated, and each one gets a few steps further
    requests = 0
    while not rows_of(runtime, tenant_id, Erasure) or rows_of(runtime, tenant_id, Erasure)[0].finished_at is None:
        receipt = erase(runtime, tenant_id, seconds=0)
        for _ in range(12):
            with runtime.db.transaction(tenant(tenant_id)) as session:
                erasures._step(session, runtime, tenant_id, receipt.id)
        requests += 1
        assert requests < 20
    # then it ends all the same
    assert requests > 1
    assert USER not in dump(runtime)


def test_erasures_that_fail_keep_none_back(runtime: Runtime, tenant_id: str) -> None:
    # given more erasures that cannot be gone on with than a round takes, and one that can
    with runtime.db.transaction(tenant(tenant_id)) as session:
        for number in range(150):
            broken = {
                "user_hash": f"h{number}",
                "requested_at": runtime.clock.now(),
                "counts": {},
                "progress": "broken",
            }
            session.add(Erasure(tenant_id=tenant_id, **broken))
    receipt = erase(runtime, tenant_id, seconds=0)
    # when the sweeps go on
    for _ in range(100):
        sweeps.sweep(runtime)
        if rows_of(runtime, tenant_id, Erasure, id=receipt.id)[0].finished_at:
            break
    # then it has had its turn
    assert rows_of(runtime, tenant_id, Erasure, id=receipt.id)[0].finished_at is not None


def test_what_only_looks_like_the_person_stays(runtime: Runtime, tenant_id: str) -> None:
    # given others whose words hold those of the person
    data = {"mail": "joann@example.com", "tel": "+49151773177310", "shipping": {"street": "Elm", "shippingCost": 3}}
    with runtime.db.transaction(tenant(tenant_id)) as session:
        ann = {"user_id": "shipping", "email": "ann@example.com", "phone": "+4915177317731"}
        recipients.upsert(session, runtime.clock, tenant_id, [ann])
        message = DirectSend(
            Channel.EMAIL, ("bob@example.com",), {"subject": "s", "text": "by shipping", "cc": ["joann@example.com"]}
        )
        (sent,) = send_direct(session, runtime, tenant_id, message)
        for key in ("joann@example.com", "welcome:ann@example.com"):
            now = runtime.clock.now()
            row = {"key": key, "event_id": sent, "created_at": now, "expires_at": now + timedelta(days=1)}
            session.add(EventDedupe(tenant_id=tenant_id, **row))
    (event_id,) = accept(runtime, tenant_id, EventInput("order.created", data, ("bob",)))
    before = rows_of(runtime, tenant_id, DeliveryContent, id=sent)[0].parts
    # when the person is erased
    counts = erase(runtime, tenant_id, "shipping").counts
    # then the others have what they had, and only what was the person's is counted
    assert rows_of(runtime, tenant_id, Event, id=event_id)[0].data == data
    assert rows_of(runtime, tenant_id, DeliveryContent, id=sent)[0].parts == before
    assert [row.key for row in rows_of(runtime, tenant_id, EventDedupe)] == ["joann@example.com"]
    assert counts == {"recipients": 1, "event_dedupes": 1}


@pytest.mark.parametrize(("gone", "others"), [("bob", {"ada", "carl", "dora"}), ("ada", {"bob", "carl", "dora"})])
@pytest.mark.usefixtures("whole_pages")
def test_a_list_is_gone_on_with_where_the_person_stood(
    runtime: Runtime, tenant_id: str, monkeypatch: pytest.MonkeyPatch, gone: str, others: set[str]
) -> None:
    # given a list whose planning has come to the person
    size = sorted({gone, *others}).index(gone) + 1
    monkeypatch.setattr(pages, "PAGE", size)
    monkeypatch.setattr(pipeline, "TURN_SECONDS", 0)
    with runtime.db.transaction(tenant(tenant_id)) as session:
        topics.add(session, runtime.clock, tenant_id, "news", [gone, *others])
    (event_id,) = accept(runtime, tenant_id, EventInput("order.created", ORDER, topics=("news",)))
    plan_events(runtime, Lane.NORMAL)
    assert rows_of(runtime, tenant_id, Event)[0].topic_after == gone
    # when they are erased
    erase(runtime, tenant_id, gone)
    # then the place is kept, by somebody else's name or by the beginning of the list
    (event,) = rows_of(runtime, tenant_id, Event)
    assert (event.topic_after, event.cursor) == ("ada" if gone == "bob" else "", size)
    # and each of the others has one turn
    plan_all(runtime)
    assert rows_of(runtime, tenant_id, Event, id=event_id)[0].cursor == 4
    assert told(runtime, tenant_id) == others


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("<Ann@Example.com>, ann@example.com.", "<[erased]>, [erased]."),
        ("joann@example.com jo.ann@example.com bob+ann@example.com", None),
        ("ann@example.com.au ann@example.community", None),
        (
            r"?e=ann%40example.com&f=%3Cann@example.com%3E a\nann@example.com",
            r"?e=[erased]&f=%3C[erased]%3E a\n[erased]",
        ),
        ("tel:+4915177317731, +49151773177310", "tel:[erased], +49151773177310"),
        ("welcome:user-7731 /users/user-7731.", "welcome:[erased] /users/[erased]."),
        ("super-user-7731 user-7731-b user-77310", None),
        ("free shipping by shipping", None),
        ('{"shipping": 1, "by":"shipping"}', '{"shipping": 1, "by":"[erased]"}'),
        ("shipping", "[erased]"),
    ],
)
def test_a_word_is_the_persons_where_it_stands_by_itself(text: str, left: str | None) -> None:
    words = words_of("user-7731", "ann@example.com", "+4915177317731") + words_of("shipping")
    assert cleaned(text, words) == (left or text)


def test_names_in_json_stay_unless_they_are_the_person() -> None:
    words = words_of("shipping", "ann@example.com")
    data = {"shipping": ["shipping", "x"], "ann@example.com": 1, "joann@example.com": 2}
    assert cleaned(data, words) == {"shipping": ["x"], "[erased]": 1, "joann@example.com": 2}


def test_a_short_user_id_is_not_looked_for_in_texts() -> None:
    assert words_of("5", "five@example.com", None) == ("five@example.com",)
    assert cleaned({"a": "item 5", "b": ["x", "Five@Example.com"]}, words_of("5", "five@example.com")) == {
        "a": "item 5",
        "b": ["x"],
    }
    assert cleaned("to five@example.com!", ("five@example.com",)) == "to [erased]!"


@pytest.mark.timeout(300)  # some thousand deliveries
def test_an_erasure_in_the_midst_of_work_leaves_nothing(
    runtime: Runtime, tenant_id: str, worker: InProcessWorker
) -> None:
    # given many events for the person and a list, which workers are planning and sending just now
    with runtime.db.transaction(tenant(tenant_id)) as session:
        topics.add(session, runtime.clock, tenant_id, "news", [USER, *(f"member-{n}" for n in range(300))])
        recipients.upsert(session, runtime.clock, tenant_id, [MARKS, BOB])
    data = ORDER | {"mail": MARKS["email"]}
    for _ in range(20):
        named = [EventInput("order.created", data, (USER, "bob")), EventInput("order.created", data, (USER,))]
        accept(runtime, tenant_id, *named, EventInput("order.created", ORDER, topics=("news",)))
    wait_until(lambda: rows_of(runtime, tenant_id, InAppNotification, user_id=USER), 60)
    # when the person is erased meanwhile
    erase(runtime, tenant_id)
    # then the sweeps finish it, and when all is quiet nothing is left
    wait_until(lambda: rows_of(runtime, tenant_id, Erasure)[0].finished_at, 60)
    wait_until(lambda: all(event.status == "planned" for event in rows_of(runtime, tenant_id, Event)), 60)
    wait_until(lambda: not rows_of(runtime, tenant_id, Delivery, status="sending"), 60)
    worker.stop()
    assert [line for line in dump(runtime).split("\n") if any(mark.lower() in line.lower() for mark in TEXTS)] == []
    # and of the others nobody was passed over
    assert len(told(runtime, tenant_id)) == 301
