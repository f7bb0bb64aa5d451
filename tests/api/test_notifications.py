"""The bell by its doors, for a person and for a service that names one."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from sqlalchemy import select

from app.core import keys
from app.core.runtime import Runtime
from app.models import SigningKey
from app.tenancy import tenant


@pytest.fixture
def ada(runtime: Runtime, tenant_id: str) -> dict[str, str]:
    with runtime.db.transaction(tenant(tenant_id)) as session:
        key = session.execute(select(SigningKey).where(SigningKey.tenant_id == tenant_id)).scalar_one()
    return {"Authorization": f"Bearer {keys.make_token(runtime.vault, key, 'ada', runtime.clock, 1)}"}


@pytest.fixture
def three(client: Any, auth: dict[str, str], ada: dict[str, str]) -> list[str]:
    """Three test notifications of ada's; their ids, newest first."""
    for _ in range(3):
        answer = client.post("/api/notifications/test", json={"channels": ["in_app"]}, headers=ada)
        assert answer.status_code == 202, answer.json
        assert [item["status"] for item in answer.json["deliveries"]] == ["delivered"]
    return [item["id"] for item in client.get("/api/notifications", headers=ada).json["items"]]


def test_a_list_that_is_too_long_is_refused_before_its_items(client: Any, auth: dict[str, str]) -> None:
    answer = client.post("/api/notifications/mark-as-read?userId=ada", json={"ids": [1] * 1_001}, headers=auth)

    assert answer.status_code == 422
    assert answer.json["errors"] == [{"field": "ids", "message": "must have 1 to 1000 items"}]


def test_a_person_lists_reads_and_deletes_their_own(client: Any, ada: dict[str, str], three: list[str]) -> None:
    assert len(three) == 3
    assert client.get("/api/notifications/unread-count", headers=ada).json == {"count": 3}

    marked = client.post("/api/notifications/mark-as-read", json={"ids": three[:1]}, headers=ada)

    assert marked.json == {"count": 1}
    unread = client.get("/api/notifications?unread=true", headers=ada).json["items"]
    read = client.get("/api/notifications?read=true&type=info", headers=ada).json["items"]
    assert [item["id"] for item in unread] == three[1:]
    assert [item["id"] for item in read] == three[:1]
    assert read[0]["readAt"].endswith("Z")
    assert read[0]["eventType"] == "tidings.test"
    assert client.post("/api/notifications/mark-all-as-read", headers=ada).json == {"count": 2}
    assert client.post("/api/notifications/delete", json={"ids": three[1:]}, headers=ada).json == {"count": 2}
    assert len(client.get("/api/notifications", headers=ada).json["items"]) == 1


def test_a_service_acts_for_the_person_it_names(client: Any, auth: dict[str, str], three: list[str]) -> None:
    own = client.get("/api/notifications?userId=ada", headers=auth).json["items"]
    others = client.post("/api/notifications/mark-as-read?userId=eve", json={"ids": three}, headers=auth)

    assert [item["id"] for item in own] == three
    assert others.json == {"count": 0}
    assert client.get("/api/notifications/unread-count?userId=ada", headers=auth).json == {"count": 3}


def test_reading_is_seen_in_the_delivery(
    client: Any, auth: dict[str, str], ada: dict[str, str], three: list[str]
) -> None:
    client.post("/api/notifications/mark-as-read", json={"ids": three[:1]}, headers=ada)

    delivery = client.get(f"/api/deliveries/{three[0]}", headers=auth).json
    assert delivery["readAt"] is not None
    assert delivery["attempts"][0]["outcome"] == "accepted"


def test_a_test_says_why_a_channel_does_not_reach_the_person(client: Any, auth: dict[str, str]) -> None:
    body = {"channels": ["in_app", "email", "sms", "webhook"]}
    answer = client.post("/api/notifications/test?userId=ada", json=body, headers=auth)

    found = {item["channel"]: (item["status"], item["reason"]) for item in answer.json["deliveries"]}
    assert found.pop("in_app") == ("delivered", None)
    assert found == dict.fromkeys(("email", "sms", "webhook"), ("skipped", "no_address"))


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("mark-as-read", {}, "ids"),
        ("mark-as-read", {"ids": []}, "ids"),
        ("mark-as-read", {"ids": ["x"] * 1001}, "ids"),
        ("mark-as-read", {"ids": [5]}, "ids.0"),
        ("delete", {"ids": "x"}, "ids"),
        ("test", {"channels": ["pigeon"]}, "channels.0"),
        ("test", {"channels": []}, "channels"),
    ],
)
def test_bad_input_names_its_field(
    client: Any, ada: dict[str, str], path: str, body: dict[str, Any], field: str
) -> None:
    answer = client.post(f"/api/notifications/{path}", json=body, headers=ada)

    assert answer.status_code == 422
    assert [error["field"] for error in answer.json["errors"]] == [field]


@pytest.mark.parametrize("empty", [{}, {"content_type": "application/json"}, {"json": {}}])
def test_a_test_needs_no_body(client: Any, ada: dict[str, str], empty: dict[str, Any]) -> None:
    answer = client.post("/api/notifications/test", headers=ada, **empty)
    assert [item["channel"] for item in answer.json["deliveries"]] == ["in_app"]
    # but where something has to be said, its kind does
    assert client.post("/api/notifications/mark-as-read", headers=ada).status_code == 415
    assert client.post("/api/notifications/test", headers=ada, data="x").status_code == 415


def test_unknown_ids_are_passed_by(client: Any, ada: dict[str, str]) -> None:
    body = {"ids": ["no id", str(uuid.uuid4())]}
    assert client.post("/api/notifications/mark-as-read", json=body, headers=ada).json == {"count": 0}
