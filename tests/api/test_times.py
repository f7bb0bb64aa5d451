"""Times at the ends of the calendar, wherever a time comes in."""

from __future__ import annotations

from typing import Any

import pytest

LATE = ["9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999999999-23:59", "9999-12-31T00:00:00+23:59"]
EARLY = ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "1969-12-31T23:59:59Z", "1970-01-01T00:00:00+00:01"]
FIRST = ["1970-01-01T00:00:00Z", "1969-12-31T23:59:00-00:01", "1970-01-07T00:00:00Z"]
LISTS = [
    "/api/events?since={}",
    "/api/events?until={}",
    "/api/deliveries?since={}",
    "/api/deliveries?until={}",
    "/api/notifications?userId=ada&since={}",
]


@pytest.mark.parametrize("path", LISTS)
def test_lists_take_every_moment_from_1970_on(client: Any, auth: dict[str, str], path: str) -> None:
    for at in (*LATE, *FIRST):
        assert client.get(path.format(at.replace("+", "%2B")), headers=auth).status_code == 200, at
    for at in EARLY:
        answer = client.get(path.format(at.replace("+", "%2B")), headers=auth)
        assert (answer.status_code, answer.json["errors"][0]["message"]) == (422, "lies before 1970"), at


def test_an_event_and_a_key_take_the_last_moments(client: Any, auth: dict[str, str]) -> None:
    for at in (*LATE, FIRST[0]):
        made = client.post("/api/events", json={"eventType": "a.b", "occurredAt": at}, headers=auth)
        assert made.status_code == 202, made.json
        assert client.get(f"/api/events/{made.json['id']}", headers=auth).status_code == 200
    for at in LATE:
        made = client.post("/api/api-keys", json={"name": "n", "expiresAt": at}, headers=auth)
        assert (made.status_code, made.json["expiresAt"][:10]) == (201, "9999-12-30")
        assert client.get("/api/events", headers={"Authorization": f"Bearer {made.json['key']}"}).status_code == 200
    for at in (*EARLY, FIRST[0]):
        assert client.post("/api/api-keys", json={"name": "n", "expiresAt": at}, headers=auth).status_code == 422


def test_a_list_shows_what_lies_between_the_ends(client: Any, auth: dict[str, str]) -> None:
    client.post("/api/events", json={"eventType": "a.b"}, headers=auth)

    found = client.get(f"/api/events?since={FIRST[0]}&until={LATE[0]}", headers=auth)

    assert len(found.json["items"]) == 1
