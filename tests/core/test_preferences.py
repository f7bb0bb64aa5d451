"""What people want to hear, and who decided it."""

from __future__ import annotations

from typing import Any

import pytest

from app.clock import Clock
from app.core import preferences
from app.core.preferences import Choices, Decision
from app.errors import ConflictError, InvalidError
from app.tenancy import tenant


def item(category: str, channel: str, enabled: bool | None) -> dict[str, Any]:
    return {"category": category, "channel": channel, "enabled": enabled}


DEFAULTS = {("orders", "sms"): False, ("*", "email"): False, ("orders", "email"): True}
ADA = {("orders", "sms"): True, ("*", "in_app"): False, ("news", "in_app"): True}


@pytest.mark.parametrize(
    ("category", "channel", "critical", "expected"),
    [
        ("orders", "sms", False, Decision(True, "person")),
        ("orders", "in_app", False, Decision(False, "person_all")),
        ("orders", "in_app", True, Decision(True, "critical")),
        ("news", "in_app", False, Decision(True, "person")),
        ("orders", "email", False, Decision(True, "tenant")),
        ("news", "email", False, Decision(False, "tenant_all")),
        ("news", "webhook", False, Decision(True, "default")),
    ],
)
def test_the_nearest_choice_wins(category: str, channel: str, critical: bool, expected: Decision) -> None:
    choices = Choices({"ada": ADA}, DEFAULTS)
    assert choices.allows("ada", category, channel, critical=critical) == expected


def test_one_persons_choice_is_not_anothers() -> None:
    assert Choices({"ada": ADA}, {}).allows("bob", "orders", "in_app") == Decision(True, "default")


def test_what_is_not_named_stays_and_null_takes_a_choice_back(db: Any, tenant_id: str) -> None:
    # given two choices
    with db.transaction(tenant(tenant_id)) as session:
        given = [item("orders", "sms", False), item("*", "email", False)]
        preferences.put(session, Clock(), tenant_id, "ada", given)
    # when one is taken back and another is added
    with db.transaction(tenant(tenant_id)) as session:
        given = [item("orders", "sms", None), item("orders", "email", True)]
        preferences.put(session, Clock(), tenant_id, "ada", given)
        choices = preferences.load(session, tenant_id, ["ada", "bob"])
    # then the third is as it was
    assert choices.allows("ada", "orders", "sms") == Decision(True, "default")
    assert choices.allows("ada", "orders", "email") == Decision(True, "person")
    assert choices.allows("ada", "news", "email") == Decision(False, "person_all")
    assert choices.allows("bob", "news", "email") == Decision(True, "default")


def test_a_choice_can_be_changed_and_the_later_of_two_counts(db: Any, tenant_id: str) -> None:
    with db.transaction(tenant(tenant_id)) as session:
        preferences.put(session, Clock(), tenant_id, "ada", [item("orders", "sms", True)])
        twice = [item("orders", "sms", True), item("orders", "sms", False)]
        preferences.put(session, Clock(), tenant_id, "ada", twice)
        choices = preferences.load(session, tenant_id, ["ada"])
    assert not choices.allows("ada", "orders", "sms").enabled


def test_the_effective_answer_knows_the_categories_of_rules_defaults_and_own_choices(db: Any, tenant_id: str) -> None:
    with db.transaction(tenant(tenant_id)) as session:
        preferences.put_defaults(session, tenant_id, [item("digest", "email", False), item("*", "sms", None)])
        preferences.put(session, Clock(), tenant_id, "ada", [item("own", "sms", False)])
        found = preferences.effective(session, tenant_id, "ada")
    assert {entry["category"] for entry in found} == {"*", "account", "orders", "billing", "digest", "own"}
    assert {entry["channel"] for entry in found} == {"email", "sms", "in_app"}
    assert len(found) == 6 * 3
    decided = {(entry["category"], entry["channel"]): (entry["enabled"], entry["decided_by"]) for entry in found}
    assert decided["digest", "email"] == (False, "tenant")
    assert decided["own", "sms"] == (False, "person")
    assert decided["orders", "sms"] == (True, "default")


def test_wrong_items_are_named_and_nothing_is_stored(db: Any, tenant_id: str) -> None:
    wrong = [item("orders", "sms", False), item("No Such", "pigeon", True)]
    with pytest.raises(InvalidError) as refused, db.transaction(tenant(tenant_id)) as session:
        preferences.put(session, Clock(), tenant_id, "ada", wrong)
    assert set(refused.value.fields) == {"items.1.category", "items.1.channel"}
    with db.transaction(tenant(tenant_id)) as session:
        assert preferences.load(session, tenant_id, ["ada"]).allows("ada", "orders", "sms").decided_by == "default"


def test_a_person_cannot_hoard_choices(db: Any, tenant_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preferences, "MAX_CATEGORIES", 1)
    with db.transaction(tenant(tenant_id)) as session:
        preferences.put(session, Clock(), tenant_id, "ada", [item(f"c{number}", "sms", False) for number in range(3)])
    with pytest.raises(ConflictError), db.transaction(tenant(tenant_id)) as session:
        preferences.put(session, Clock(), tenant_id, "ada", [item("c3", "sms", False)])
