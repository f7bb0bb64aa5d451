"""The doors of recipients."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import pytest

from app.core import exports
from app.core.runtime import Runtime
from tests.core.helpers import drain
from tests.history import write_day

ADA = {"name": "Ada", "email": "ada@example.com", "phone": "+4915112345678", "locale": "de-AT", "timeZone": "UTC"}


def test_a_person_is_saved_whole_read_and_forgotten(client: Any, auth: dict[str, str]) -> None:
    made = client.put("/api/recipients/ada", json={**ADA, "attributes": {"plan": "gold"}}, headers=auth)
    assert made.status_code == 200, made.json
    assert {name: made.json[name] for name in ADA} == ADA
    assert client.get("/api/recipients/ada", headers=auth).json == made.json
    changed = client.put("/api/recipients/ada", json={"name": "Ada L."}, headers=auth).json
    assert (changed["email"], changed["attributes"]) == (None, {})
    assert [item["userId"] for item in client.get("/api/recipients", headers=auth).json["items"]] == ["ada"]
    assert client.delete("/api/recipients/ada", headers=auth).status_code == 204
    assert client.get("/api/recipients/ada", headers=auth).status_code == 404


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"email": "nobody"}, "email"),
        ({"phone": "1"}, "phone"),
        ({"locale": "zz-99-x"}, "locale"),
        ({"timeZone": "../etc/passwd"}, "timeZone"),
        ({"attributes": []}, "attributes"),
        ({"attributes": {"x": "y" * 20_000}}, "attributes"),
        ({"name": "a\u0000b"}, "name"),
        ({"userId": "bob"}, "userId"),
    ],
)
def test_a_wrong_field_is_named(client: Any, auth: dict[str, str], change: dict[str, Any], path: str) -> None:
    answer = client.put("/api/recipients/ada", json={**ADA, **change}, headers=auth)
    assert answer.status_code == 422
    assert path in answer.get_data(as_text=True)
    assert client.get("/api/recipients/ada", headers=auth).status_code == 404


@pytest.mark.parametrize("user_id", ["%00", "a%0Ab", "%ED%A0%80", "a" * 300])
def test_a_strange_user_id_is_no_fault_of_ours(client: Any, auth: dict[str, str], user_id: str) -> None:
    assert client.get(f"/api/recipients/{user_id}", headers=auth).status_code in (404, 422, 400)
    assert client.delete(f"/api/recipients/{user_id}", headers=auth).status_code in (404, 422, 400)


@pytest.mark.parametrize("path", ["org/5", "org%2F5", "org%2f5/6", "/5", "%2F%2F5", "a//b", "x/export", "5/logs"])
def test_slashes_belong_to_a_user_id(client: Any, auth: dict[str, str], path: str) -> None:
    # given somebody whose id looks like the end of this one
    client.put("/api/recipients/5", json={"name": "Five"}, headers=auth)
    # when a person is saved, read and forgotten under an id with slashes
    made = client.put(f"/api/recipients/{path}", json=ADA, headers=auth)
    assert (made.status_code, made.json["userId"]) == (200, unquote(path))
    assert client.get(f"/api/recipients/{path}", headers=auth).json == made.json
    assert client.delete(f"/api/recipients/{path}", headers=auth).status_code == 204
    # then nobody else was meant
    assert client.get("/api/recipients/5", headers=auth).json["name"] == "Five"
    assert client.get("/api/recipients/", headers=auth).status_code == 404


def test_user_ids_with_unusual_characters_work(client: Any, auth: dict[str, str]) -> None:
    path = "/api/recipients/m%C3%BCller%20%2B%20s%C3%B6hne%40x"
    assert client.put(path, json=ADA, headers=auth).json["userId"] == "müller + söhne@x"
    assert client.get(path, headers=auth).status_code == 200


def test_erasing_answers_with_a_receipt_that_can_be_read_again(client: Any, auth: dict[str, str]) -> None:
    # given a person
    client.put("/api/recipients/zoe", json=ADA, headers=auth)
    # when they are erased
    answer = client.delete("/api/recipients/zoe?erase=true", headers=auth)
    # then they are gone, and the receipt says so
    assert (answer.status_code, answer.json["counts"]) == (200, {"recipients": 1})
    assert client.get("/api/recipients/zoe", headers=auth).status_code == 404
    assert client.get(f"/api/erasures/{answer.json['id']}", headers=auth).json == answer.json
    assert client.get("/api/erasures?userId=zoe", headers=auth).json["items"] == [answer.json]
    assert client.get("/api/erasures?userId=bob", headers=auth).json["items"] == []
    assert "zoe" not in answer.get_data(as_text=True)
    # and somebody nobody knows gets one as well
    assert client.delete("/api/recipients/nobody?erase=true", headers=auth).json["counts"] == {}
    assert client.delete("/api/recipients/nobody?erase=maybe", headers=auth).status_code == 422


def test_a_receipt_that_is_not_there_is_not_found(client: Any, auth: dict[str, str]) -> None:
    for path in ("x", "01a1f876-2594-77a7-8252-0e9ea6598099"):
        assert client.get(f"/api/erasures/{path}", headers=auth).status_code == 404


def test_everything_about_a_person_is_exported(client: Any, auth: dict[str, str], runtime: Runtime) -> None:
    # given a person with one of everything, and somebody else
    for user in ("ada", "bob"):
        client.put(f"/api/recipients/{user}", json=ADA, headers=auth)
    choice = {"items": [{"category": "news", "channel": "sms", "enabled": False}]}
    client.put("/api/notifications/preferences?userId=ada", json=choice, headers=auth)
    client.put("/api/topics/news/recipients", json={"userIds": ["ada", "bob"]}, headers=auth)
    client.post("/api/send/in-app", json={"userId": "ada", "title": "Hello", "message": "Ada"}, headers=auth)
    for people in (["ada", "bob"], ["bob"]):
        event = {"eventType": "some.thing", "recipients": people, "data": {"n": 1}}
        client.post("/api/events", json=event, headers=auth)
    drain(runtime)
    # when all of it is asked for
    answer = client.get("/api/recipients/ada/export", headers=auth)
    # then all of it is there, and nothing of others
    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    found = answer.json
    assert found["profile"][0]["email"] == "ada@example.com"
    assert [item["category"] for item in found["preferences"]] == ["news"]
    assert [item["name"] for item in found["topics"]] == ["news"]
    assert [item["title"] for item in found["notifications"]] == ["Hello"]
    (delivery,) = found["deliveries"]
    assert (delivery["address"], delivery["content"]["title"]) == ("ada", "Hello")
    assert [attempt["outcome"] for attempt in delivery["attempts"]] == ["accepted"]
    assert [(item["data"], item["namedOthers"]) for item in found["events"]] == [({"n": 1}, 1)]
    assert "bob" not in answer.get_data(as_text=True)


def test_a_long_export_comes_in_pages(
    client: Any, auth: dict[str, str], runtime: Runtime, tenant_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "PAGE", 2)
    monkeypatch.setattr(exports, "WINDOW", 3)
    made = [write_day(runtime, tenant_id, datetime.now(UTC)) for _ in range(7)]
    found = client.get("/api/recipients/ada/export", headers=auth).json
    assert sorted(item["id"] for item in found["deliveries"]) == sorted(made)
    assert sorted(item["id"] for item in found["events"]) == sorted(made)


def test_of_a_person_whom_only_an_event_names_the_event_is_exported(client: Any, auth: dict[str, str]) -> None:
    event = {"eventType": "nobody.wants", "recipients": ["lone-person"], "data": {"n": 1}}
    made = client.post("/api/events", json=event, headers=auth).json
    found = client.get("/api/recipients/lone-person/export", headers=auth).json
    assert [(item["id"], item["data"]) for item in found["events"]] == [(made["id"], {"n": 1})]
    assert (found["profile"], found["deliveries"]) == ([], [])


def test_of_a_person_nobody_knows_nothing_is_exported(client: Any, auth: dict[str, str]) -> None:
    assert client.get("/api/recipients/nobody/export", headers=auth).status_code == 404
