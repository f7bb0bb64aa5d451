"""The doors of rules."""

from __future__ import annotations

from typing import Any

import pytest

ACTION = {"channel": "email", "template": "order.created"}
RULE = {"eventType": "order.*", "category": "orders", "condition": "data.total > 1", "actions": [ACTION]}


def test_a_rule_is_created_read_replaced_and_deleted(client: Any, auth: dict[str, str]) -> None:
    made = client.post("/api/rules", json=RULE, headers=auth)
    assert made.status_code == 201, made.json
    assert made.json["actions"] == [ACTION]
    assert (made.json["name"], made.json["order"], made.json["enabled"]) == ("order.*", 0, True)
    assert made.json["priority"] is None
    path = f"/api/rules/{made.json['id']}"
    assert client.get(path, headers=auth).json == made.json
    changed = client.put(path, json={**RULE, "enabled": False, "order": 7, "priority": "bulk"}, headers=auth)
    assert (changed.status_code, changed.json["enabled"], changed.json["order"]) == (200, False, 7)
    assert changed.json["priority"] == "bulk"
    assert client.delete(path, headers=auth).status_code == 204
    assert client.get(path, headers=auth).status_code == 404
    assert client.delete(path, headers=auth).status_code == 404


def test_the_list_is_cut_into_pages(client: Any, auth: dict[str, str]) -> None:
    seen, after = [], ""
    while True:
        page = client.get(f"/api/rules?limit=2{after}", headers=auth).json
        seen += [item["eventType"] for item in page["items"]]
        if page["nextCursor"] is None:
            break
        after = f"&after={page['nextCursor']}"
    assert sorted(seen) == ["order.created", "subscription.payment_failed", "user.registered"]


def test_a_number_given_as_priority_is_still_the_order(client: Any, auth: dict[str, str]) -> None:
    made = client.post("/api/rules", json={**RULE, "priority": 7}, headers=auth).json
    both = client.post("/api/rules", json={**RULE, "priority": 7, "order": 3}, headers=auth).json

    assert (made["order"], made["priority"]) == (7, None)
    assert (both["order"], both["priority"]) == (3, None)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"condition": "order.total > 1"}, "condition"),
        ({"actions": [{**ACTION, "condition": "data.total >"}]}, "actions.0.condition"),
        ({"actions": [{"channel": "sms"}]}, "actions.0.template"),
        ({"actions": [{"channel": "webhook", "configurationId": "x"}]}, "actions.0.configurationId"),
        ({"actions": []}, "actions"),
        ({"eventType": "a b"}, "eventType"),
        ({"priority": "1"}, "priority"),
        ({"priority": True}, "priority"),
        ({"priority": 2_000_000}, "priority"),
        ({"order": "1"}, "order"),
        ({"enabled": 1}, "enabled"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_wrong_field_is_named(client: Any, auth: dict[str, str], change: dict[str, Any], path: str) -> None:
    answer = client.post("/api/rules", json={**RULE, **change}, headers=auth)
    assert answer.status_code == 422
    assert answer.mimetype == "application/problem+json"
    assert path in answer.get_data(as_text=True)
    assert len(client.get("/api/rules", headers=auth).json["items"]) == 3


def test_an_idempotency_key_makes_one_rule(client: Any, auth: dict[str, str]) -> None:
    headers = {**auth, "Idempotency-Key": "once"}
    first, second = (client.post("/api/rules", json=RULE, headers=headers) for _ in range(2))
    assert first.json == second.json
    assert len(client.get("/api/rules", headers=auth).json["items"]) == 4


def test_rules_need_a_key(client: Any, tenant_id: str) -> None:
    assert client.get("/api/rules").status_code == 401
    assert client.post("/api/rules", json=RULE).status_code == 401
