"""The doors of recipients."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import pytest

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
