"""The doors of webhook configurations, and a receiver that is really called."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from app.core.deliveries import send
from app.core.outbox import Lane
from app.core.runtime import Runtime
from providers.webhook.signature import verify
from tests.servers.http import Answer, HttpReceiver

PATH = "/api/webhooks/configurations"


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with HttpReceiver() as server:
        yield server


def add(client: Any, auth: dict[str, str], url: str, **fields: Any) -> dict[str, Any]:
    made = client.post(PATH, json={"url": url, **fields}, headers=auth)
    assert made.status_code == 201, made.json
    return dict(made.json)


def test_the_secret_is_shown_when_it_is_made_and_never_again(
    client: Any, auth: dict[str, str], receiver: HttpReceiver
) -> None:
    made = add(client, auth, receiver.url("/hook"), eventTypes=["order.*"])
    secret = made["secret"]
    path = f"{PATH}/{made['id']}"
    shown = client.get(path, headers=auth)
    assert shown.json == {name: value for name, value in made.items() if name != "secret"}
    listed = client.get(PATH, headers=auth)
    changed = client.put(path, json={"url": receiver.url("/other"), "description": "x"}, headers=auth)
    assert (changed.json["url"], changed.json["eventTypes"]) == (receiver.url("/other"), ["*"])
    for answer in (shown, listed, changed):
        assert secret not in answer.get_data(as_text=True)
    fresh = client.post(f"{path}/regenerate-secret", headers=auth).json["secret"]
    assert fresh.startswith("whsec_")
    assert fresh != secret
    assert client.delete(path, headers=auth).status_code == 204
    assert client.get(path, headers=auth).status_code == 404


def test_a_replayed_answer_holds_no_secret(client: Any, auth: dict[str, str], receiver: HttpReceiver) -> None:
    headers = {**auth, "Idempotency-Key": "once"}
    first, second = (client.post(PATH, json={"url": receiver.url("/")}, headers=headers) for _ in range(2))
    assert second.headers["Idempotency-Replayed"] == "true"
    assert first.json["secret"] not in second.get_data(as_text=True)
    assert first.json["id"] == second.json["id"]


@pytest.mark.parametrize("url", ["http://10.0.0.1/", "http://169.254.169.254/", "ftp://x.example/", "nonsense", ""])
def test_a_url_that_may_not_be_called_is_refused(client: Any, auth: dict[str, str], url: str) -> None:
    answer = client.post(PATH, json={"url": url}, headers=auth)
    assert answer.status_code == 422
    assert client.get(PATH, headers=auth).json["items"] == []


def test_trying_sends_at_once_and_answers_with_the_attempt(
    client: Any, auth: dict[str, str], receiver: HttpReceiver
) -> None:
    # given a subscriber that is disabled
    made = add(client, auth, receiver.url("/hook"), enabled=False)
    # when it is tried
    answer = client.post(f"{PATH}/{made['id']}/test", json={"eventType": "order.created"}, headers=auth)
    # then the receiver got a signed event, and the answer says what it said
    assert answer.status_code == 200, answer.json
    assert (answer.json["statusCode"], answer.json["status"], answer.json["trigger"]) == (200, "delivered", "test")
    assert answer.json["durationMs"] > 0
    got = receiver.wait_for(1)[0]
    names = ("webhook-id", "webhook-timestamp", "webhook-signature")
    verify(made["secret"], *(got.headers[name] for name in names), got.body, now=time.time())
    assert json.loads(got.body)["type"] == "order.created"
    # and it stands in the logs
    logs = client.get(f"{PATH}/{made['id']}/logs", headers=auth).json["items"]
    assert [item["id"] for item in logs] == [answer.json["id"]]


def test_a_refusal_is_an_answer_too(client: Any, auth: dict[str, str], receiver: HttpReceiver) -> None:
    made = add(client, auth, receiver.url("/hook"))
    receiver.on("/hook", Answer(500, body=b"broken"))
    answer = client.post(f"{PATH}/{made['id']}/test", headers=auth)  # nothing has to be said
    assert answer.status_code == 200, answer.json
    assert (answer.json["statusCode"], answer.json["status"], answer.json["number"]) == (500, "failed", 1)
    assert answer.json["responseBody"] == "broken"


def test_receivers_that_hang_hold_a_quarter_of_the_threads_and_no_more(
    app: Any, auth: dict[str, str], receiver: HttpReceiver
) -> None:
    # given a receiver that answers when it is told to, and as many tests as may wait for it
    path = f"{PATH}/{add(app.test_client(), auth, receiver.url('/hook'))['id']}/test"
    free = threading.Event()
    receiver.on("/hook", lambda _: Answer(200) if free.wait(30) else Answer(500))
    with ThreadPoolExecutor(2) as pool:  # WEB_THREADS is 8
        try:
            waiting = [pool.submit(lambda: app.test_client().post(path, headers=auth)) for _ in range(2)]
            receiver.wait_for(2)
            # when one more comes, or a person's test
            more = app.test_client().post(path, headers=auth | {"Idempotency-Key": "one more"})
            person = app.test_client().post("/api/notifications/test?userId=ada", json={}, headers=auth)
        finally:
            free.set()
        answered = [one.result().status_code for one in waiting]
    # then it is told to come again, and may
    assert (more.status_code, more.json["code"]) == (503, "busy")
    assert int(more.headers["Retry-After"]) >= 1
    assert person.status_code == 503
    assert answered == [200, 200]
    again = app.test_client().post(path, headers=auth | {"Idempotency-Key": "one more"})
    assert again.status_code == 200


def test_trying_what_is_not_there_is_not_found(client: Any, auth: dict[str, str]) -> None:
    assert client.post(f"{PATH}/nonsense/test", json={}, headers=auth).status_code == 404


def test_what_is_sent_directly_is_signed_with_the_tenants_own_secret(
    client: Any, auth: dict[str, str], runtime: Runtime
) -> None:
    # given a receiver that was told the tenant's own secret
    made = client.post("/api/webhooks/regenerate-secret", headers=auth)
    assert made.status_code == 200
    with HttpReceiver() as receiver:
        sent = client.post("/api/send/webhook", headers=auth, json={"url": receiver.url("/own"), "payload": {"a": 1}})
        assert sent.status_code == 202
        # when
        send.deliver(runtime, Lane.TRANSACTIONAL)
        (got,) = receiver.wait_for(1)
    # then a stranger's library verifies what came
    assert Webhook(made.json["secret"]).verify(got.body, dict(got.headers)) == {"a": 1}
