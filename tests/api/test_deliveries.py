"""Deliveries by their doors: found, read, tried again, called off."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def delivery(client: Any, auth: dict[str, str]) -> dict[str, Any]:
    body = {"userId": "ada", "title": "Hi", "message": "Hello", "eventType": "a.b"}
    sent = client.post("/api/send/in-app", json=body, headers=auth)
    return dict(sent.json["deliveries"][0])


def test_a_delivery_is_found_by_each_filter(client: Any, auth: dict[str, str], delivery: dict[str, Any]) -> None:
    def found(query: str) -> list[str]:
        return [item["id"] for item in client.get(f"/api/deliveries?{query}", headers=auth).json["items"]]

    mine = [delivery["id"]]
    assert found("userId=ada") == found("channel=in_app") == found("status=pending") == mine
    assert found(f"since={delivery['createdAt']}") == mine
    assert found(f"until={delivery['createdAt']}") == []
    assert found("userId=eve") == found("channel=sms") == found("status=sent") == []
    assert found("eventId=x") == found("eventId=0193d0f0-0000-7000-8000-000000000000") == []


def test_one_is_read_with_attempts_and_content(client: Any, auth: dict[str, str], delivery: dict[str, Any]) -> None:
    found = client.get(f"/api/deliveries/{delivery['id']}", headers=auth).json

    assert found["content"] == {"title": "Hi", "text": "Hello", "type": "info"}
    assert (found["attempts"], found["attemptCount"]) == ([], 0)
    assert {**delivery, "attempts": [], "content": found["content"]} == found


def test_a_waiting_one_is_called_off_and_tried_again(
    client: Any, auth: dict[str, str], delivery: dict[str, Any]
) -> None:
    path = f"/api/deliveries/{delivery['id']}"

    canceled = client.post(f"{path}/cancel", headers=auth)
    again = client.post(f"{path}/cancel", headers=auth)
    retried = client.post(f"{path}/retry", headers=auth)

    assert (canceled.status_code, canceled.json["status"]) == (200, "canceled")
    assert (again.status_code, again.json["code"]) == (409, "wrong_status")
    assert retried.status_code in (200, 409)


@pytest.mark.parametrize("delivery_id", ["x", "0193d0f0-0000-7000-8000-000000000000"])
@pytest.mark.parametrize(("method", "action"), [("GET", ""), ("POST", "/retry"), ("POST", "/cancel")])
def test_an_unknown_one_is_a_404(client: Any, auth: dict[str, str], delivery_id: str, method: str, action: str) -> None:
    assert client.open(f"/api/deliveries/{delivery_id}{action}", method=method, headers=auth).status_code == 404


@pytest.mark.parametrize(
    ("query", "field"), [("channel=fax", "channel"), ("status=lost", "status"), ("until=x", "until"), ("a=b", "a")]
)
def test_a_bad_filter_names_itself(client: Any, auth: dict[str, str], query: str, field: str) -> None:
    answer = client.get(f"/api/deliveries?{query}", headers=auth)

    assert answer.status_code == 422
    assert [error["field"] for error in answer.json["errors"]] == [field]
