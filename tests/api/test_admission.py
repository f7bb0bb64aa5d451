"""Posts under pressure: refused before anything is written, while everything else goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import REGISTRY

from app.config import Settings
from app.core import backlog
from app.core.outbox import Lane
from app.core.pipeline import EventInput
from app.core.runtime import Runtime
from app.entrypoints.api import admission
from app.models import Event, IdempotencyKey
from app.tenancy import Purpose, system
from tests.core.helpers import accept, rows_of

EVENT = {"eventType": "a.b"}
MAIL = {"to": "ada@example.com", "subject": "s", "text": "t"}
NOTE = {"userId": "ada", "title": "t", "message": "m"}
REFUSED = ("tidings_admission_refused_total", {"lane": "normal", "why": "backlog"})


@pytest.fixture
def make_settings() -> Callable[..., Settings]:
    return lambda **values: Settings(**values, max_backlog=3, max_backlog_transactional=1_000)


@pytest.fixture
def full(runtime: Runtime, tenant_id: str) -> None:
    """As much normal work waits as may wait."""
    accept(runtime, tenant_id, *[EventInput("a.b", lane=Lane.NORMAL)] * 3)
    with runtime.db.transaction(system(Purpose.SWEEP)) as session:
        backlog.measure(session, runtime.clock.now())


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/events", EVENT),
        ("/api/events", {**EVENT, "priority": "bulk"}),
        ("/api/events/batch", {"events": [{**EVENT, "priority": "transactional"}, EVENT]}),
        ("/api/send/email", {**MAIL, "priority": "normal"}),
        ("/api/send/in-app", {**NOTE, "priority": "bulk"}),
    ],
)
def test_a_post_is_refused_with_a_word_on_when_to_come_back(
    client: Any, auth: dict[str, str], runtime: Runtime, tenant_id: str, path: str, body: Any
) -> None:
    answer = client.post(path, json=body, headers=auth | {"Idempotency-Key": "once"})
    assert (answer.status_code, answer.json["code"]) == (503, "overloaded")
    assert answer.content_type == "application/problem+json"
    assert int(answer.headers["Retry-After"]) > 0
    # and nothing is written, not even that it was asked
    assert len(rows_of(runtime, tenant_id, Event)) == 3
    assert not rows_of(runtime, tenant_id, IdempotencyKey)


def test_what_was_taken_in_before_is_answered_as_it_was(
    client: Any, auth: dict[str, str], runtime: Runtime, tenant_id: str, request: pytest.FixtureRequest
) -> None:
    # given a post that was taken in, and then too much that waits
    first = client.post("/api/events", json=EVENT, headers=auth | {"Idempotency-Key": "once"})
    request.getfixturevalue("full")
    admission.install(client.application, runtime)  # which has not looked yet
    assert client.post("/api/events", json=EVENT, headers=auth).status_code == 503
    refused = REGISTRY.get_sample_value(*REFUSED)
    assert refused
    # when it is posted again, because its answer was lost
    again = client.post("/api/events", json=EVENT, headers=auth | {"Idempotency-Key": "once"})
    # then it is answered, and a caller does not take it for refused
    assert (again.status_code, again.json) == (202, first.json)
    assert again.headers["Idempotency-Replayed"] == "true"
    # nor does who watches the service
    assert REGISTRY.get_sample_value(*REFUSED) == refused


@pytest.mark.usefixtures("full")
def test_transactional_posts_and_everything_else_go_on(client: Any, auth: dict[str, str]) -> None:
    assert client.post("/api/events", json={**EVENT, "priority": "transactional"}, headers=auth).status_code == 202
    assert client.post("/api/send/email", json=MAIL, headers=auth).status_code == 202
    assert len(client.get("/api/events", headers=auth).json["items"]) == 4
    assert client.get("/api/deliveries", headers=auth).status_code == 200
    assert client.put("/api/recipients/ada", json={"name": "Ada"}, headers=auth).status_code == 200
    rule = {"eventType": "a.b", "category": "c", "actions": [{"channel": "sms", "template": "order.created"}]}
    assert client.post("/api/rules", json=rule, headers=auth).status_code == 201


@pytest.mark.usefixtures("full")
def test_what_is_wrong_is_told_before_it_is_refused(client: Any, auth: dict[str, str]) -> None:
    assert client.post("/api/events", json={"eventType": "no good"}, headers=auth).status_code == 422
    assert client.post("/api/events", json=EVENT).status_code == 401
