"""The doors of preferences."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from app.core import keys
from app.core.runtime import Runtime
from app.models import SigningKey
from app.tenancy import tenant

PATH = "/api/notifications/preferences"


def chosen(answer: Any, category: str, channel: str) -> tuple[bool, str]:
    item = next(i for i in answer.json["items"] if (i["category"], i["channel"]) == (category, channel))
    return item["enabled"], item["decidedBy"]


def test_a_choice_is_set_and_taken_back(client: Any, auth: dict[str, str]) -> None:
    items = [{"category": "orders", "channel": "sms", "enabled": False}]
    answer = client.put(f"{PATH}?userId=ada", json={"items": items}, headers=auth)
    assert answer.status_code == 200, answer.json
    assert chosen(answer, "orders", "sms") == (False, "person")
    assert chosen(client.get(f"{PATH}?userId=bob", headers=auth), "orders", "sms") == (True, "default")
    back = client.put(f"{PATH}?userId=ada", json={"items": [{**items[0], "enabled": None}]}, headers=auth)
    assert chosen(back, "orders", "sms") == (True, "default")


def test_the_tenants_defaults_count_where_nobody_chose(client: Any, auth: dict[str, str]) -> None:
    items = [{"category": "*", "channel": "email", "enabled": False}]
    assert client.put("/api/preference-defaults", json={"items": items}, headers=auth).json == {"items": items}
    assert client.get("/api/preference-defaults", headers=auth).json == {"items": items}
    assert chosen(client.get(f"{PATH}?userId=ada", headers=auth), "orders", "email") == (False, "tenant_all")


def test_a_service_has_to_name_the_person(client: Any, auth: dict[str, str]) -> None:
    assert client.get(PATH, headers=auth).status_code == 400
    assert client.put(PATH, json={"items": []}, headers=auth).status_code == 400


@pytest.mark.parametrize("path", [f"{PATH}?userId=ada", "/api/preference-defaults"])
@pytest.mark.parametrize("enabled", [True, False, None])
def test_webhooks_are_nobodys_preference(client: Any, auth: dict[str, str], path: str, enabled: bool | None) -> None:
    items = [{"category": "orders", "channel": "webhook", "enabled": enabled}]
    answer = client.put(path, json={"items": items}, headers=auth)
    assert answer.status_code == 422
    says = "is none of email, sms, in_app (webhooks go to services and ask no person)"
    assert answer.json["errors"] == [{"field": "items.0.channel", "message": says}]
    assert "webhook" not in client.get(path, headers=auth).get_data(as_text=True)


@pytest.mark.parametrize(
    "item",
    [
        {"category": "No!", "channel": "sms", "enabled": True},
        {"category": "orders", "channel": "pigeon", "enabled": True},
        {"category": "orders", "channel": "sms", "enabled": "yes"},
        {"category": "orders", "channel": "sms"},
    ],
)
def test_a_wrong_item_is_refused(client: Any, auth: dict[str, str], item: dict[str, Any]) -> None:
    answer = client.put(f"{PATH}?userId=ada", json={"items": [item]}, headers=auth)
    assert answer.status_code == 422
    assert "items.0." in answer.get_data(as_text=True)


def test_a_person_sets_their_own_choices_and_nobody_elses(client: Any, runtime: Runtime, tenant_id: str) -> None:
    # given Ada's token
    with runtime.db.transaction(tenant(tenant_id)) as session:
        key = session.scalars(select(SigningKey).where(SigningKey.tenant_id == tenant_id)).one()
    ada = {"Authorization": f"Bearer {keys.make_token(runtime.vault, key, 'ada', runtime.clock, 1)}"}
    items = [{"category": "orders", "channel": "sms", "enabled": False}]
    # when she sets her own and tries Bob's
    answer = client.put(PATH, json={"items": items}, headers=ada)
    assert chosen(answer, "orders", "sms") == (False, "person")
    assert client.put(f"{PATH}?userId=bob", json={"items": items}, headers=ada).status_code == 403
    # then the tenant's defaults are none of her business either
    assert client.get("/api/preference-defaults", headers=ada).status_code == 403
