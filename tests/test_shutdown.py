"""SIGTERM: requests are answered, batches finished or given back, in time, with nothing half done. In both shapes."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from app.config import Settings
from app.core import direct
from app.core.direct import DirectSend
from app.core.pipeline import EventInput
from app.core.runtime import Runtime
from app.models import Attempt, Delivery, Event
from app.tenancy import tenant
from providers.contract import Channel
from tests.conftest import KEY, wait_until
from tests.core.helpers import accept, add_endpoint, keep_only, rows_of
from tests.docs.service import Service
from tests.processes import Processes, processes
from tests.servers.http import Answer, HttpReceiver, hang
from tests.servers.smtp import SmtpServer

pytestmark = pytest.mark.timeout(300)  # whole processes start and stop, several times
PATIENCE = 60.0
HALF_DONE = ("sending", "planning")


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with HttpReceiver() as server:
        yield server


@pytest.fixture
def smtp() -> Iterator[SmtpServer]:
    with SmtpServer() as server:
        yield server


@pytest.fixture
def make_settings(smtp: SmtpServer) -> Callable[..., Settings]:
    """The test's own runtime, which writes down what is to be sent, knows the mail server too."""
    return lambda **values: Settings(**values, email_host=smtp.host, email_port=smtp.port)


@pytest.fixture
def patience_ms() -> int:
    """How long a webhook's receiver has."""
    return 3_000


@pytest.fixture
def running(
    shape: str, tmp_path: Path, shape_settings: dict[str, Any], tenant_id: str, smtp: SmtpServer, patience_ms: int
) -> Iterator[Processes]:
    """Everything is up."""
    mail = {"EMAIL_HOST": smtp.host, "EMAIL_PORT": str(smtp.port)}
    with processes(shape, tmp_path, shape_settings, WEBHOOK_TIMEOUT=str(patience_ms), **mail) as made:
        yield made


def post(port: int, path: str, body: Any) -> tuple[str, Any]:
    """What becomes of one request on a connection of its own: ("refused", None), ("answered", …) or ("cut off", …)."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.connect()
    except ConnectionRefusedError:
        return "refused", None
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    try:
        connection.request("POST", path, json.dumps(body), headers)
        answer = connection.getresponse()
        return "answered", (answer.status, json.loads(answer.read()))
    except (OSError, http.client.HTTPException) as error:
        return "cut off", type(error).__name__
    finally:
        connection.close()


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def half_done(runtime: Runtime, tenant_id: str) -> list[str]:
    found = [*rows_of(runtime, tenant_id, Event), *rows_of(runtime, tenant_id, Delivery)]
    return [row.status for row in found if row.status in HALF_DONE or row.lease_until]


def send_mails(runtime: Runtime, tenant_id: str, count: int) -> None:
    """That many mails wait; nobody is told of them but by a sweep."""
    with runtime.db.transaction(tenant(tenant_id)) as session:
        to = tuple(f"user{number}@example.com" for number in range(count))
        content = {"subject": "Hello", "text": "Words"}
        direct.send_direct(session, runtime, tenant_id, DirectSend(Channel.EMAIL, to, content))


@pytest.mark.parametrize("patience_ms", [20_000])
def test_every_request_that_has_come_in_is_answered_and_the_port_closes(
    runtime: Runtime, tenant_id: str, running: Processes, receiver: HttpReceiver
) -> None:
    # given clients that post as fast as they can, and requests that wait for a slow receiver
    port = running.web.port
    go_on = threading.Event()
    receiver.on("/slow", lambda _request: Answer(200 if go_on.wait(PATIENCE) else 500))
    endpoint = add_endpoint(runtime, tenant_id, receiver.url("/slow"), ("never.sent",))
    outcomes: list[tuple[str, Any]] = []
    over = threading.Event()
    end = time.monotonic() + PATIENCE

    def storm() -> None:
        while not over.is_set() and time.monotonic() < end:
            outcomes.append(post(port, "/api/events", {"eventType": "nobody.cares", "data": {}}))
            if outcomes[-1][0] == "refused":
                over.wait(0.05)

    with ThreadPoolExecutor(12) as pool:
        slow = [pool.submit(post, port, f"/api/webhooks/configurations/{endpoint}/test", {}) for _ in range(2)]
        receiver.wait_for(2, PATIENCE)
        storms = [pool.submit(storm) for _ in range(8)]
        try:
            wait_until(lambda: len(outcomes) > 50, PATIENCE)
            # when
            os.kill(running.web.pid, signal.SIGTERM)
            # then the port closes while the slow ones are still under way
            wait_until(lambda: not is_open(port), PATIENCE)
            assert not any(one.done() for one in slow)
            go_on.set()
            status = running.web.wait()
        finally:
            go_on.set()
            over.set()
        for one in storms:
            one.result()
        outcomes += [one.result() for one in slow]
    assert status == 0, running.web.log()
    # and who got in has an answer, and the event is there
    assert set(Counter(how for how, _ in outcomes)) == {"answered", "refused"}, Counter(
        outcome[0] for outcome in outcomes
    )
    answers = [found for how, found in outcomes if how == "answered"]
    assert {code for code, _ in answers} <= {200, 202}
    accepted = {body["id"] for code, body in answers if code == 202}
    assert {row.id for row in rows_of(runtime, tenant_id, Event)} == accepted
    assert "Traceback" not in running.web.log()


def test_a_batch_is_given_back_where_it_stands_and_nothing_is_sent_twice(
    runtime: Runtime, tenant_id: str, running: Processes, smtp: SmtpServer
) -> None:
    # given a mail server so slow that a batch would take minutes
    smtp.delay_s = 0.2
    send_mails(runtime, tenant_id, 150)
    smtp.wait_for(2, PATIENCE)
    # when
    assert set(running.stop()) == {0}, running.worker.log()
    # then only what was on the wire was waited for; all that the server took is on record, the rest waits
    taken = [mail.recipients[0] for mail in smtp.ledger]
    sent = [row.address for row in rows_of(runtime, tenant_id, Delivery, status="sent")]
    assert sorted(taken) == sorted(sent)
    assert half_done(runtime, tenant_id) == []
    assert len(rows_of(runtime, tenant_id, Delivery, status="pending")) == 150 - len(sent)
    # and when it is started again, each mail has gone out once
    smtp.delay_s = 0.0
    running.start()
    wait_until(lambda: len(rows_of(runtime, tenant_id, Delivery, status="sent")) == 150, PATIENCE)
    assert Counter(Counter(mail.recipients[0] for mail in smtp.ledger).values()) == {1: 150}
    assert {row.tries for row in rows_of(runtime, tenant_id, Delivery)} == {1}, "giving back is no try"
    outcomes = {row.outcome for row in rows_of(runtime, tenant_id, Attempt)}
    assert outcomes <= {"accepted", "returned"}


@pytest.mark.parametrize("patience_ms", [10_000])  # so that each try that is begun reaches the receiver
def test_a_receiver_that_hangs_keeps_nobody_beyond_its_timeout(
    runtime: Runtime, tenant_id: str, running: Processes, receiver: HttpReceiver
) -> None:
    receiver.default = hang()
    keep_only(runtime, tenant_id, "webhook")
    add_endpoint(runtime, tenant_id, receiver.url("/hook"), ("order.created",))
    accept(runtime, tenant_id, *[EventInput("order.created") for _ in range(120)])
    receiver.wait_for(20, PATIENCE)

    assert set(running.stop()) == {0}, running.worker.log()

    assert half_done(runtime, tenant_id) == []
    asked = Counter(one.headers["webhook-id"] for one in receiver.ledger)
    timed_out = {row.id: row.tries for row in rows_of(runtime, tenant_id, Delivery) if row.reason == "timeout"}
    assert asked == timed_out, "each try that reached the receiver is on record as one"


def test_planning_stops_between_two_pages_and_goes_on_from_there(
    runtime: Runtime, tenant_id: str, running: Processes
) -> None:
    keep_only(runtime, tenant_id, "in_app")
    people = tuple(f"user{number}" for number in range(6_000))
    accept(runtime, tenant_id, EventInput("order.created", data={"orderId": "A"}, user_ids=people))
    wait_until(lambda: rows_of(runtime, tenant_id, Delivery), PATIENCE)

    assert set(running.stop()) == {0}, running.worker.log()

    assert half_done(runtime, tenant_id) == []
    (event,) = rows_of(runtime, tenant_id, Event)
    assert event.cursor == len(rows_of(runtime, tenant_id, Delivery))
    running.start()
    wait_until(lambda: len(rows_of(runtime, tenant_id, Delivery, status="delivered")) == 6_000, PATIENCE)
    assert len(rows_of(runtime, tenant_id, Attempt, outcome="accepted")) == 6_000


def ask_again(one: Service, how: signal.Signals) -> None:
    """Ask a process that was asked to end a second time, by three signals at the most.

    Mostly by one. But what it hears within half a second of the first is the same wish to it, and on a busy machine it
    may hear the first as late as the next.
    """
    for _ in range(3):
        os.kill(one.pid, how)
        end = time.monotonic() + 5.0
        while time.monotonic() < end:
            if not one.running:
                return
            time.sleep(0.01)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(
    shape: str,
    tmp_path: Path,
    shape_settings: dict[str, Any],
    runtime: Runtime,
    tenant_id: str,
    receiver: HttpReceiver,
    how: signal.Signals,
) -> None:
    # given a receiver that hangs, and two minutes' patience with it: for a delivery, and for a request
    receiver.default = hang()
    keep_only(runtime, tenant_id, "webhook")
    endpoint = add_endpoint(runtime, tenant_id, receiver.url("/hook"), ("order.created",))
    with processes(shape, tmp_path, shape_settings, WEBHOOK_TIMEOUT="120000") as running, ThreadPoolExecutor(1) as pool:
        accept(runtime, tenant_id, EventInput("order.created"))
        test = pool.submit(post, running.web.port, f"/api/webhooks/configurations/{endpoint}/test", {})
        receiver.wait_for(2, PATIENCE)
        for one in dict.fromkeys((running.web, running.worker)):
            # when it is asked to end, it waits for both
            os.kill(one.pid, how)
            time.sleep(1.0)  # a second signal within half a second would be taken for the same wish
            assert one.running, one.log()
            # and when it is asked again, it does not
            ask_again(one, how)
            assert one.wait() == 1
        assert test.result()[0] == "cut off"
    # then the row says that somebody had it, which the sweep will find
    assert [row.status for row in rows_of(runtime, tenant_id, Delivery, trigger="event")] == ["sending"]
