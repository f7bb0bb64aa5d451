"""The doors of events: one, many, each judged alone, and reading them."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from sqlalchemy import func, select
from werkzeug.test import create_environ, run_wsgi_app

from app.core.runtime import Runtime
from app.models import Event, Recipient
from app.running.worker import InProcessWorker
from app.tenancy import Purpose, system
from tests.conftest import wait_until


def count(runtime: Runtime, model: Any = Event) -> int:
    with runtime.db.transaction(system(Purpose.SWEEP), read_only=True) as session:
        return session.execute(select(func.count()).select_from(model)).scalar_one()


def fields_of(answer: Any) -> set[str]:
    assert answer.content_type == "application/problem+json"
    return {error["field"] for error in answer.json["errors"]}


def test_bodies_of_a_few_bytes_and_very_many_values_are_refused_unread(client: Any, auth: dict[str, str]) -> None:
    for body in (b'{"events": [' + b"[]," * 1_100_000 + b"[]]}", b"{" + b'"":1,' * 1_100_000 + b'"":1}'):
        answer = client.post("/api/events/batch", data=body, content_type="application/json", headers=auth)

        assert (answer.status_code, answer.json["code"]) == (413, "body_too_large")


def test_a_hundred_faults_are_told_and_then_one_for_each_event(client: Any, auth: dict[str, str]) -> None:
    # given an event with many unknown names, one with many bad numbers, a person with many unknown names, a good one
    names = {f"k{n}": 1 for n in range(5_000)}
    events = [
        {"eventType": "a.b", **names},
        {"eventType": "a.b", "data": {"a": [2**70] * 5_000}},
        {"eventType": "a.b", "recipients": [{"userId": "ada", **names}]},
        {"eventType": "a.b"},
    ]

    answer = client.post("/api/events/batch", json={"events": events}, headers=auth)

    told = {item["index"]: item["errors"] for item in answer.json["errors"]}
    assert {index: len(errors) for index, errors in told.items()} == {0: 100, 1: 1, 2: 1}
    assert told[0][0] == {"field": "k0", "message": "is not known"}
    assert told[2][0]["field"] == "recipients.0.k0"
    assert [item["index"] for item in answer.json["items"]] == [3]


def test_an_event_is_accepted_and_can_be_read(client: Any, auth: dict[str, str]) -> None:
    body = {
        "eventType": "order.created",
        "userId": "ada",
        "recipients": ["bob", {"userId": "cy", "email": "cy@example.com"}, "bob"],
        "data": {"total": 4.5, "ünï": ["c", None, True]},
        "occurredAt": "2026-11-20T09:00:00.5+01:00",
    }

    answer = client.post("/api/events", json=body, headers=auth)

    assert answer.status_code == 202, answer.json
    found = client.get(f"/api/events/{answer.json['id']}", headers=auth)
    assert found.status_code == 200
    assert found.json["userIds"] == ["ada", "bob", "cy"]
    assert found.json["data"] == body["data"]
    assert found.json["occurredAt"] == "2026-11-20T08:00:00.500000Z"
    assert found.json["status"] == "received"
    assert found.json["deliveries"] == []
    listed = client.get("/api/events?eventType=order.created&status=received", headers=auth).json
    assert [item["id"] for item in listed["items"]] == [answer.json["id"]]
    assert listed["nextCursor"] is None
    assert client.get("/api/events?eventType=order.other", headers=auth).json["items"] == []


@pytest.mark.parametrize(("people", "more"), [(2, False), (110, True)])
def test_an_event_says_when_it_shows_only_its_newest_deliveries(
    client: Any, auth: dict[str, str], worker: InProcessWorker, people: int, more: bool
) -> None:
    # given an event with more deliveries than its answer holds, or fewer
    body = {"eventType": "user.registered", "recipients": [f"user-{number}" for number in range(people)]}
    path = f"/api/events/{client.post('/api/events', json=body, headers=auth).json['id']}"
    # when it is planned and then read for the first time: a count that took long would be shown again for a while
    wait_until(lambda: client.get("/api/events?status=planned", headers=auth).json["items"])
    found = client.get(path, headers=auth).json
    # then it says so
    assert found["moreDeliveries"] is more
    assert (sum(found["deliveryCounts"].values()) > len(found["deliveries"])) is more


def test_inline_people_are_saved_and_absent_fields_stay(client: Any, auth: dict[str, str], runtime: Runtime) -> None:
    first = {"userId": "ada", "name": "Ada", "email": "ada@example.com"}
    client.post("/api/events", json={"eventType": "a.b", "recipients": [first]}, headers=auth)

    second = {"userId": "ada", "phone": "+15005550006"}
    answer = client.post("/api/events", json={"eventType": "a.b", "recipients": [second]}, headers=auth)

    assert answer.status_code == 202
    person = client.get("/api/recipients/ada", headers=auth).json
    assert (person["name"], person["email"], person["phone"]) == ("Ada", "ada@example.com", "+15005550006")


BAD: list[tuple[Any, str]] = [
    ({}, "eventType"),
    ({"eventType": 5}, "eventType"),
    ({"eventType": "with space"}, "eventType"),
    ({"eventType": "a..b"}, "eventType"),
    ({"eventType": "a.b\n"}, "eventType"),
    ({"eventType": "x" * 256}, "eventType"),
    ({"eventType": "a.b", "other": 1}, "other"),
    ({"eventType": "a.b", "data": [1]}, "data"),
    ({"eventType": "a.b", "data": {"n": 2**63}}, "data.n"),
    ({"eventType": "a.b", "data": {"n": float("nan")}}, "data.n"),
    ({"eventType": "a.b", "data": {"n": [1, float("inf")]}}, "data.n.1"),
    ({"eventType": "a.b", "data": {"t": "x\x00"}}, "data.t"),
    ({"eventType": "a.b", "data": {"t": "\ud800"}}, "data.t"),
    ({"eventType": "a.b", "data": {"blob": "x" * 262_144}}, "data"),
    ({"eventType": "a.b", "userId": ""}, "userId"),
    ({"eventType": "a.b", "userId": "x" * 256}, "userId"),
    ({"eventType": "a.b", "userId": "a\nb"}, "userId"),
    ({"eventType": "a.b", "userId": None}, "userId"),
    ({"eventType": "a.b", "recipients": "ada"}, "recipients"),
    ({"eventType": "a.b", "recipients": [7]}, "recipients.0"),
    ({"eventType": "a.b", "recipients": ["ada", ""]}, "recipients.1"),
    ({"eventType": "a.b", "recipients": [{"email": "ada@example.com"}]}, "recipients.0.userId"),
    ({"eventType": "a.b", "recipients": [{"userId": "ada", "email": "nobody"}]}, "recipients.0.email"),
    ({"eventType": "a.b", "recipients": [{"userId": "ada", "color": "red"}]}, "recipients.0.color"),
    ({"eventType": "a.b", "recipients": ["a", {"userId": "ada", "timeZone": "Mars"}]}, "recipients.1.timeZone"),
    ({"eventType": "a.b", "occurredAt": "2026-11-20T09:00:00"}, "occurredAt"),
    ({"eventType": "a.b", "occurredAt": "2026-13-20T09:00:00Z"}, "occurredAt"),
    ({"eventType": "a.b", "occurredAt": "0001-01-01T00:00:00+14:00"}, "occurredAt"),
    ({"eventType": "a.b", "occurredAt": 5}, "occurredAt"),
    ([], ""),
    ("text", ""),
]


@pytest.mark.parametrize(("body", "field"), BAD)
def test_bad_input_names_its_field_and_nothing_is_stored(
    client: Any, auth: dict[str, str], runtime: Runtime, body: Any, field: str
) -> None:
    sent = json.dumps(body)  # ASCII: a lone surrogate travels as an escape
    answer = client.post("/api/events", data=sent, content_type="application/json", headers=auth)

    assert answer.status_code == 422, answer.text
    assert field in fields_of(answer)
    assert count(runtime) == 0
    assert count(runtime, Recipient) == 0


@pytest.mark.parametrize("body", [b"", b"{", b"{'a': 1}", b'{"a": 1}x', b"\xff\xfe", b'{"a": "\x00"}', b"1" * 5000])
def test_what_is_no_json_is_a_400(client: Any, auth: dict[str, str], runtime: Runtime, body: bytes) -> None:
    answer = client.post("/api/events", data=body, content_type="application/json", headers=auth)

    assert answer.status_code == 400, answer.text
    assert answer.json["code"] == "malformed_json"
    assert count(runtime) == 0


def test_nesting_has_an_end(client: Any, auth: dict[str, str], runtime: Runtime) -> None:
    for depth in (40, 100_000):
        body = '{"eventType": "a.b", "data": {"deep": ' + "[" * depth + "]" * depth + "}}"
        answer = client.post("/api/events", data=body, content_type="application/json", headers=auth)
        assert answer.status_code == 422
        assert any("nested" in error["message"] for error in answer.json["errors"])
    assert count(runtime) == 0


def test_a_body_that_is_no_json_or_too_large_is_told_so(client: Any, auth: dict[str, str]) -> None:
    form = client.post("/api/events", data={"a": "b"}, headers=auth)
    large = client.post("/api/events", data=b" " * 1_048_577, content_type="application/json", headers=auth)

    assert (form.status_code, form.json["code"]) == (415, "unsupported_media_type")
    assert (large.status_code, large.json["code"]) == (413, "body_too_large")


def test_too_large_is_too_large_without_a_length(app: Any, auth: dict[str, str]) -> None:
    environ = create_environ("/api/events", method="POST", headers=auth, content_type="application/json")
    environ.pop("CONTENT_LENGTH", None)
    environ |= {"wsgi.input": io.BytesIO(b" " * 1_100_000), "wsgi.input_terminated": True}

    _, status, _ = run_wsgi_app(app.wsgi_app, environ)

    assert status.startswith("413")


def test_each_event_of_a_batch_is_judged_alone(client: Any, auth: dict[str, str], runtime: Runtime) -> None:
    events = [
        {"eventType": "a.b", "userId": "ada"},
        {"eventType": "no good"},
        {"eventType": "a.c", "data": {"n": 2**70}},
        7,
        {"eventType": "a.d"},
    ]

    answer = client.post("/api/events/batch", json={"events": events}, headers=auth)

    assert answer.status_code == 202
    assert [item["index"] for item in answer.json["items"]] == [0, 4]
    assert [item["index"] for item in answer.json["errors"]] == [1, 2, 3]
    assert answer.json["errors"][1]["errors"] == [{"field": "data.n", "message": "is an integer beyond 64 bits"}]
    assert count(runtime) == 2
    found = client.get(f"/api/events/{answer.json['items'][1]['id']}", headers=auth).json
    assert found["eventType"] == "a.d"


def test_a_batch_of_only_bad_events_is_refused(client: Any, auth: dict[str, str], runtime: Runtime) -> None:
    answer = client.post("/api/events/batch", json={"events": [{}, {"eventType": 1}]}, headers=auth)

    assert answer.status_code == 422
    assert fields_of(answer) == {"events.0.eventType", "events.1.eventType"}
    assert count(runtime) == 0


@pytest.mark.parametrize("events", [[], [{"eventType": "a.b"}] * 1001, "x", None])
def test_a_batch_has_one_to_a_thousand_events(client: Any, auth: dict[str, str], events: Any) -> None:
    assert fields_of(client.post("/api/events/batch", json={"events": events}, headers=auth)) == {"events"}


def test_lists_go_on_from_their_cursor(client: Any, auth: dict[str, str]) -> None:
    events = [{"eventType": f"n.{n}"} for n in range(5)]
    client.post("/api/events/batch", json={"events": events}, headers=auth)

    seen, after = [], ""
    for _ in range(3):
        page = client.get(f"/api/events?limit=2{after}", headers=auth).json
        seen += [item["eventType"] for item in page["items"]]
        after = f"&after={page['nextCursor']}"

    assert seen == ["n.4", "n.3", "n.2", "n.1", "n.0"]
    assert page["nextCursor"] is None


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=x", "limit"),
        ("after=x", "after"),
        ("since=yesterday", "since"),
        ("status=lost", "status"),
        ("color=red", "color"),
        ("eventType=a%00", "eventType"),
    ],
)
def test_a_bad_query_names_its_parameter(client: Any, auth: dict[str, str], query: str, field: str) -> None:
    answer = client.get(f"/api/events?{query}", headers=auth)

    assert answer.status_code == 422
    assert field in fields_of(answer)


def test_since_and_until_cut_the_list(client: Any, auth: dict[str, str]) -> None:
    client.post("/api/events", json={"eventType": "a.b"}, headers=auth)
    made = client.get("/api/events", headers=auth).json["items"][0]["createdAt"]

    assert len(client.get(f"/api/events?since={made}", headers=auth).json["items"]) == 1
    assert client.get(f"/api/events?until={made}", headers=auth).json["items"] == []
    assert client.get("/api/events?since=2999-01-01T00:00:00Z", headers=auth).json["items"] == []


@pytest.mark.parametrize("event_id", ["x", "0193d0f0-0000-7000-8000-000000000000", "a" * 300])
def test_an_unknown_event_is_a_404(client: Any, auth: dict[str, str], event_id: str) -> None:
    answer = client.get(f"/api/events/{event_id}", headers=auth)

    assert (answer.status_code, answer.json["code"]) == (404, "not_found")


def test_what_a_test_key_posts_is_marked(client: Any, auth: dict[str, str]) -> None:
    key = client.post("/api/api-keys", json={"name": "t", "kind": "test"}, headers=auth).json["key"]

    made = client.post("/api/events", json={"eventType": "a.b"}, headers={"Authorization": f"Bearer {key}"}).json["id"]

    assert client.get(f"/api/events/{made}", headers=auth).json["test"] is True
