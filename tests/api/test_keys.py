"""API keys and signing keys by their doors: shown once, listed without secrets, never more than one's own."""

from __future__ import annotations

from typing import Any

import pytest

UNKNOWN = "01a1f7ed-19c3-77bd-86a5-a9efb52f5b7c"


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


def test_a_changed_key_opens_at_once_what_it_now_may(client: Any, auth: dict[str, str]) -> None:
    # given a key that was used a moment ago
    made = client.post("/api/api-keys", json={"name": "a", "scopes": ["events:read"]}, headers=auth).json
    bearer, path = {"Authorization": f"Bearer {made['key']}"}, f"/api/api-keys/{made['id']}"
    assert client.get("/api/events", headers=bearer).status_code == 200
    # when its name, scopes and end are changed
    change = {"name": "b", "scopes": ["rules:read"], "expiresAt": "2099-01-01T00:00:00Z"}
    changed = client.put(path, json=change, headers=auth)
    # then that counts in the next request
    assert changed.status_code == 200, changed.json
    assert {name: changed.json[name] for name in ("id", "name", "scopes", "hint")} == {
        "id": made["id"],
        "name": "b",
        "scopes": ["rules:read"],
        "hint": made["hint"],
    }
    assert changed.json["expiresAt"] == "2099-01-01T00:00:00.000000Z"
    assert client.get("/api/events", headers=bearer).status_code == 403
    assert client.get("/api/rules", headers=bearer).status_code == 200
    assert "key" not in changed.json


def test_a_key_changes_no_key_beyond_its_own_scopes(client: Any, auth: dict[str, str]) -> None:
    def make(*scopes: str) -> Any:
        return client.post("/api/api-keys", json={"name": "a", "scopes": list(scopes)}, headers=auth).json

    weak, strong = make("keys:write", "events:read"), make("*")
    bearer = {"Authorization": f"Bearer {weak['key']}"}
    for target, scopes in ((weak, ["*"]), (weak, ["rules:read"]), (strong, ["events:read"])):
        refused = client.put(f"/api/api-keys/{target['id']}", json={"name": "x", "scopes": scopes}, headers=bearer)
        assert (refused.status_code, refused.json["code"]) == (403, "missing_scope")
    own = client.put(f"/api/api-keys/{weak['id']}", json={"name": "x", "scopes": ["events:read"]}, headers=bearer)
    assert own.status_code == 200
    assert client.get(f"/api/api-keys/{strong['id']}", headers=auth).json["scopes"] == ["*"]


def test_a_change_names_its_faults_and_a_key_that_is_not_there(client: Any, auth: dict[str, str]) -> None:
    made = client.post("/api/api-keys", json={"name": "a"}, headers=auth).json
    past = {"expiresAt": "2001-01-01T00:00:00Z"}
    answer = client.put(f"/api/api-keys/{made['id']}", json=past, headers=auth)
    assert sorted(error["field"] for error in answer.json["errors"]) == ["expiresAt", "name", "scopes"]
    good = {"name": "a", "scopes": ["*"]}
    assert client.put(f"/api/api-keys/{UNKNOWN}", json=good, headers=auth).status_code == 404
    assert client.put(f"/api/signing-keys/{UNKNOWN}", json={"name": "a"}, headers=auth).status_code == 404


def test_a_signing_key_is_renamed(client: Any, auth: dict[str, str]) -> None:
    made = client.post("/api/signing-keys", json={"name": "a", "algorithm": "HS256"}, headers=auth).json
    changed = client.put(f"/api/signing-keys/{made['id']}", json={"name": "b"}, headers=auth)
    assert (changed.status_code, changed.json["name"], changed.json["id"]) == (200, "b", made["id"])
    assert "secret" not in changed.json
