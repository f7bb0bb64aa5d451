"""API keys and signing keys by their doors: shown once, listed without secrets, never more than one's own."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.parametrize(
    ("path", "body", "secret"),
    [
        ("/api/api-keys", {"name": "ci", "scopes": ["events:write"]}, "key"),
        ("/api/signing-keys", {"name": "ci", "algorithm": "HS256"}, "secret"),
    ],
)
def test_a_secret_is_shown_once(
    client: Any, auth: dict[str, str], path: str, body: dict[str, Any], secret: str
) -> None:
    made = client.post(path, json=body, headers=auth)

    assert made.status_code == 201
    one = client.get(f"{path}/{made.json['id']}", headers=auth)
    assert one.json == {name: value for name, value in made.json.items() if name != secret}
    assert made.json[secret] not in client.get(path, headers=auth).text
    assert client.delete(f"{path}/{made.json['id']}", headers=auth).status_code == 204
    assert client.get(f"{path}/{made.json['id']}", headers=auth).json["revokedAt"] is not None
    assert client.delete(f"{path}/{made.json['id']}", headers=auth).status_code == 204


def test_a_key_gives_no_more_than_it_has(client: Any, auth: dict[str, str]) -> None:
    body = {"name": "a", "scopes": ["keys:write", "events:read"]}
    key = client.post("/api/api-keys", json=body, headers=auth).json["key"]
    less = {"Authorization": f"Bearer {key}"}

    for scopes in (["*"], ["events:write"], ["events:read", "keys:read"]):
        refused = client.post("/api/api-keys", json={"name": "b", "scopes": scopes}, headers=less)
        assert (refused.status_code, refused.json["code"]) == (403, "missing_scope")
    assert client.post("/api/api-keys", json={"name": "b"}, headers=less).status_code == 403
    same = client.post("/api/api-keys", json={"name": "b", "scopes": ["events:read"]}, headers=less)
    assert same.status_code == 201


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("api-keys", {}, "name"),
        ("api-keys", {"name": ""}, "name"),
        ("api-keys", {"name": "x", "kind": "fake"}, "kind"),
        ("api-keys", {"name": "x", "scopes": []}, "scopes"),
        ("api-keys", {"name": "x", "scopes": ["all"]}, "scopes.0"),
        ("api-keys", {"name": "x", "expiresAt": "2001-01-01T00:00:00Z"}, "expiresAt"),
        ("api-keys", {"name": "x", "key": "tdg_live_mine"}, "key"),
        ("signing-keys", {"name": "x"}, "algorithm"),
        ("signing-keys", {"name": "x", "algorithm": "none"}, "algorithm"),
        ("signing-keys", {"name": "x", "algorithm": "EdDSA"}, "publicKey"),
        ("signing-keys", {"name": "x", "algorithm": "EdDSA", "publicKey": "-----BEGIN"}, "publicKey"),
    ],
)
def test_bad_input_names_its_field_and_nothing_is_stored(
    client: Any, auth: dict[str, str], path: str, body: dict[str, Any], field: str
) -> None:
    before = client.get(f"/api/{path}", headers=auth).json

    answer = client.post(f"/api/{path}", json=body, headers=auth)

    assert answer.status_code == 422
    assert [error["field"] for error in answer.json["errors"]] == [field]
    assert client.get(f"/api/{path}", headers=auth).json == before


def test_a_key_says_when_it_was_used(client: Any, auth: dict[str, str]) -> None:
    made = client.post("/api/api-keys", json={"name": "used"}, headers=auth).json
    assert made["lastUsedAt"] is None

    client.get("/api/events", headers={"Authorization": f"Bearer {made['key']}"})

    assert client.get(f"/api/api-keys/{made['id']}", headers=auth).json["lastUsedAt"] is not None
