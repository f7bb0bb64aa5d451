"""The doors of templates."""

from __future__ import annotations

from typing import Any

import pytest

SMS = {"key": "greeting", "channel": "sms", "text": "Hello {{data.name}}"}


def test_a_template_is_created_previewed_replaced_and_deleted(client: Any, auth: dict[str, str]) -> None:
    made = client.post("/api/templates", json=SMS, headers=auth)
    assert made.status_code == 201, made.json
    assert {name: made.json[name] for name in SMS} == SMS
    assert (made.json["version"], made.json["locale"], made.json["source"]) == (1, "", "own")
    path = f"/api/templates/{made.json['id']}"
    shown = client.post(f"{path}/preview", json={"data": {"name": "Ada"}}, headers=auth)
    assert (shown.status_code, shown.json) == (200, {"text": "Hello Ada"})
    assert client.post(f"{path}/preview", headers=auth).json == {"text": "Hello"}
    changed = client.put(path, json={**SMS, "text": "Hi"}, headers=auth).json
    assert (changed["version"], changed["text"]) == (2, "Hi")
    assert client.get(path, headers=auth).json == changed
    assert client.delete(path, headers=auth).status_code == 204
    assert client.get(path, headers=auth).status_code == 404


def test_shipped_templates_can_be_read_and_copied(client: Any, auth: dict[str, str]) -> None:
    found = client.get("/api/templates?source=shipped&key=order.created&channel=email", headers=auth).json["items"]
    assert len(found) == 1
    assert found[0]["id"] is None
    parts = {name: found[0][name] for name in ("subject", "text", "html") if name in found[0]}
    own = {"key": "order.created", "channel": "email", **parts}
    assert client.post("/api/templates", json=own, headers=auth).status_code == 201
    assert len(client.get("/api/templates?key=order.created", headers=auth).json["items"]) == 1


def test_shipped_templates_come_in_pages_too(client: Any, auth: dict[str, str]) -> None:
    whole = client.get("/api/templates?source=shipped&limit=200", headers=auth).json
    assert whole["nextCursor"] is None
    seen, after = [], ""
    while True:
        page = client.get(f"/api/templates?source=shipped&limit=5{after}", headers=auth).json
        assert 1 <= len(page["items"]) <= 5
        seen += page["items"]
        if page["nextCursor"] is None:
            break
        after = f"&after={page['nextCursor']}"
    assert seen == whole["items"]
    assert len(seen) > 5
    strange = client.get("/api/templates?source=shipped&after=01a1f7ed-19c3-77bd-86a5-a9efb52f5b7c", headers=auth)
    assert (strange.status_code, strange.json["errors"][0]["field"]) == (422, "after")


def test_unsaved_text_is_previewed(client: Any, auth: dict[str, str]) -> None:
    body = {
        "channel": "email",
        "subject": "{{data.n}}",
        "text": "{{> foot}}",
        "html": "<p>{{data.x}}</p>",
        "data": {"n": 1.0, "x": "<"},
        "partials": {"foot": "Bye"},
        "locale": "de-AT",
        "timeZone": "Europe/Vienna",
    }
    answer = client.post("/api/templates/preview", json=body, headers=auth)
    assert answer.status_code == 200, answer.json
    assert (answer.json["subject"], answer.json["text"]) == ("1", "Bye")
    assert "&lt;" in answer.json["html"]
    assert client.get("/api/templates", headers=auth).json["items"] == []


@pytest.mark.parametrize(
    ("route", "body", "path"),
    [
        ("", {**SMS, "text": "{{#if a}}"}, "text"),
        ("", {**SMS, "html": "x"}, "html"),
        ("", {**SMS, "key": "../x"}, "key"),
        ("", {**SMS, "actionUrl": 1}, "actionUrl"),
        ("/preview", {"channel": "sms", "text": "{{a.[x') or (1)]}"}, "text"),
        ("/preview", {"channel": "sms", "text": "a", "timeZone": "../x"}, "timeZone"),
        ("/preview", {"channel": "sms", "text": "a", "data": []}, "data"),
        ("/preview", {"channel": "sms", "text": "a", "partials": {"x": 1}}, "partials"),
        ("/preview", {"channel": "sms"}, "text"),
        ("/preview", {"text": "a"}, "channel"),
    ],
)
def test_a_wrong_field_is_named(client: Any, auth: dict[str, str], route: str, body: dict[str, Any], path: str) -> None:
    answer = client.post(f"/api/templates{route}", json=body, headers=auth)
    assert answer.status_code == 422, answer.json
    assert f'"{path}' in answer.get_data(as_text=True)
