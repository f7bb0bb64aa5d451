"""Priorities and expiry at the doors."""

from __future__ import annotations

from typing import Any

import pytest

EVENT = {"eventType": "a.b"}
MAIL = {"to": "ada@example.com", "subject": "s", "text": "t"}
PAST, FUTURE = "2001-01-01T00:00:00Z", "2099-01-01T00:00:00.000000Z"


def fields_of(answer: Any) -> set[str]:
    assert answer.status_code == 422, answer.json
    return {error["field"] for error in answer.json["errors"]}


def test_an_event_is_normal_and_never_too_late_unless_it_says(client: Any, auth: dict[str, str]) -> None:
    shown = []
    for more in ({}, {"priority": "bulk", "expiresAt": FUTURE}):
        made = client.post("/api/events", json=EVENT | more, headers=auth).json["id"]
        found = client.get(f"/api/events/{made}", headers=auth).json
        shown.append((found["priority"], found["expiresAt"]))
    assert shown == [("normal", None), ("bulk", FUTURE)]
    listed = client.get("/api/events", headers=auth).json["items"]
    assert [item["priority"] for item in listed] == ["bulk", "normal"]


def test_a_direct_send_is_transactional_unless_it_says(client: Any, auth: dict[str, str]) -> None:
    (first,) = client.post("/api/send/email", json=MAIL, headers=auth).json["deliveries"]
    more = {"priority": "normal", "expiresAt": FUTURE}
    (second,) = client.post("/api/send/email", json=MAIL | more, headers=auth).json["deliveries"]
    assert (first["priority"], first["expiresAt"]) == ("transactional", None)
    assert (second["priority"], second["expiresAt"]) == ("normal", FUTURE)


@pytest.mark.parametrize(("path", "body"), [("/api/events", EVENT), ("/api/send/email", MAIL)])
@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"priority": "urgent"}, "priority"),
        ({"priority": 1}, "priority"),
        ({"priority": None}, "priority"),
        ({"expiresAt": PAST}, "expiresAt"),
        ({"expiresAt": "tomorrow"}, "expiresAt"),
    ],
)
def test_what_is_wrong_is_named(
    client: Any, auth: dict[str, str], path: str, body: dict[str, Any], more: dict[str, Any], field: str
) -> None:
    headers = auth | {"Idempotency-Key": "once"}
    assert field in fields_of(client.post(path, json=body | more, headers=headers))
    # and the key of what was refused is free
    assert client.post(path, json=body, headers=headers).status_code == 202


def test_of_a_batch_only_what_is_too_late_is_refused(client: Any, auth: dict[str, str]) -> None:
    events = [EVENT | {"expiresAt": PAST}, EVENT]
    answer = client.post("/api/events/batch", json={"events": events}, headers=auth).json
    assert [item["index"] for item in answer["items"]] == [1]
    assert [(item["index"], item["errors"][0]["field"]) for item in answer["errors"]] == [(0, "expiresAt")]
    alone = client.post("/api/events/batch", json={"events": events[:1]}, headers=auth)
    assert fields_of(alone) == {"events.0.expiresAt"}
