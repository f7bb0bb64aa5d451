"""Dedupe at the doors, and fifty posts at once at the doors of real processes."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docs.service import Service

EVENT = {"eventType": "invoice.paid", "dedupe": {"key": "invoice-7", "window": 60}}


def fields_of(answer: Any) -> set[str]:
    assert answer.status_code == 422, answer.json
    return {error["field"] for error in answer.json["errors"]}


def test_a_duplicate_is_answered_with_the_first_id(client: Any, auth: dict[str, str]) -> None:
    first = client.post("/api/events", json=EVENT, headers=auth)
    second = client.post("/api/events", json=EVENT, headers=auth)
    assert (first.status_code, second.status_code) == (202, 202)
    assert "duplicate" not in first.json
    assert second.json == {"id": first.json["id"], "status": "received", "duplicate": True}
    found = client.get(f"/api/events/{first.json['id']}", headers=auth).json["dedupe"]
    assert (found["key"], found["duplicates"]) == ("invoice-7", 1)
    assert found["lastDuplicateAt"] < found["until"]
    assert len(client.get("/api/events", headers=auth).json["items"]) == 1


def test_a_batch_says_which_of_its_events_are_duplicates(client: Any, auth: dict[str, str]) -> None:
    events = [EVENT, {"eventType": "a.b"}, EVENT, {"eventType": "no good"}]
    answer = client.post("/api/events/batch", json={"events": events}, headers=auth).json
    first, plain, again = answer["items"]
    assert again == {"index": 2, "id": first["id"], "duplicate": True}
    assert "duplicate" not in first
    assert plain["id"] != first["id"]


def test_the_window_is_the_settings_unless_the_event_says(client: Any, auth: dict[str, str]) -> None:
    event = {"eventType": "a.b", "dedupe": {"key": "k"}}
    path = f"/api/events/{client.post('/api/events', json=event, headers=auth).json['id']}"
    found = client.get(path, headers=auth).json
    assert found["dedupe"]["until"][:10] > found["createdAt"][:10]  # a day later
    plain = client.post("/api/events", json={"eventType": "a.b"}, headers=auth).json["id"]
    assert client.get(f"/api/events/{plain}", headers=auth).json["dedupe"] is None


@pytest.mark.parametrize(
    ("dedupe", "field"),
    [
        ("invoice-7", "dedupe"),
        ({}, "dedupe.key"),
        ({"key": ""}, "dedupe.key"),
        ({"key": "k" * 256}, "dedupe.key"),
        ({"key": "a\x1fb"}, "dedupe.key"),
        ({"key": "k", "window": 0}, "dedupe.window"),
        ({"key": "k", "window": 2_592_001}, "dedupe.window"),
        ({"key": "k", "until": 1}, "dedupe.until"),
    ],
)
def test_what_is_wrong_is_named(client: Any, auth: dict[str, str], dedupe: Any, field: str) -> None:
    assert field in fields_of(client.post("/api/events", json={"eventType": "a.b", "dedupe": dedupe}, headers=auth))


@pytest.fixture
def service(shape: str, shape_settings: dict[str, Any], tmp_path: Path) -> Iterator[Service]:
    """A real service: one process embedded, two web processes without a worker in production."""
    settings = {} if shape == "embedded" else {name.upper(): str(shape_settings[name]) for name in _SHARED}
    made = Service(tmp_path / "service", command="up" if shape == "embedded" else "web", **settings)
    if shape == "production":
        assert made.run("migrate").returncode == 0
    made.start()
    yield made
    made.kill()


_SHARED = ("database_url", "redis_url", "secret_key")


@pytest.mark.timeout(300)  # real processes, on a machine that may be busy
def test_fifty_posts_at_once_by_two_callers_make_one_event(service: Service) -> None:
    # given two API keys
    keys = [service.call("POST", "/api/api-keys", {"name": f"caller {n}"})["key"] for n in range(2)]
    answers: list[dict[str, Any]] = []
    barrier = threading.Barrier(50)

    def post(key: str) -> None:
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{service.url}/api/events", json.dumps(EVENT).encode(), headers)
        barrier.wait()
        with urllib.request.urlopen(request, timeout=60) as answer:
            answers.append(json.loads(answer.read()))

    threads = [threading.Thread(target=post, args=(keys[n % 2],)) for n in range(50)]
    # when both post the same event at the same moment
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # then all are answered, one made the event, and it knows of the others
    assert len(answers) == 50
    assert len({answer["id"] for answer in answers}) == 1
    assert sum("duplicate" not in answer for answer in answers) == 1
    (event,) = service.call("GET", "/api/events?eventType=invoice.paid")["items"]
    assert service.call("GET", f"/api/events/{event['id']}")["dedupe"]["duplicates"] == 49
