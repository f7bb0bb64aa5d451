"""Rules: what may be saved, and which of them speak of an event."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import update

from app.clock import Clock
from app.core import names, rules, webhooks
from app.core.runtime import Runtime
from app.errors import ConflictError, InvalidError, NotFoundError
from app.models import Rule
from app.paging import Cursor
from app.tenancy import tenant

UNKNOWN = "01a1f7d4-913b-757d-814a-4afe303badb3"
EMAIL = {"channel": "email", "template": "order.created"}


def rule(**fields: Any) -> dict[str, Any]:
    return {"event_type": "order.created", "category": "orders", "actions": [EMAIL], **fields}


@pytest.mark.parametrize(
    ("patterns", "event_type", "expected"),
    [
        (["order.created"], "order.created", True),
        (["order.created"], "order.created.late", False),
        (["order.*"], "order.created", True),
        (["order.*"], "order.created.late", True),
        (["order.*"], "order", False),
        (["order.*"], "orders.created", False),
        (["*"], "anything", True),
        (["a", "order.*"], "order.x", True),
        ([], "order.created", False),
    ],
)
def test_patterns_choose_event_types(patterns: list[str], event_type: str, expected: bool) -> None:
    assert names.matches(patterns, event_type) is expected


@pytest.mark.parametrize("text", ["*", "order.*", "a.b-c.d_e", "a" * 255])
def test_a_pattern_is_a_name_or_a_branch_or_all(text: str) -> None:
    assert names.is_pattern(text)


@pytest.mark.parametrize("text", ["", ".", "a.", "a..b", "*.a", "a.*.b", "a*", "ä", "a b", "a\n", "**", "a" * 256])
def test_what_is_no_pattern(text: str) -> None:
    assert not names.is_pattern(text)


def test_loaded_rules_come_by_priority_and_without_disabled_ones(db: Any, tenant_id: str) -> None:
    # given rules of different priority among the seeded ones
    with db.transaction(tenant(tenant_id)) as session:
        first = rules.create(session, Clock(), tenant_id, rule(order=5, event_type="order.*"))
        rules.create(session, Clock(), tenant_id, rule(order=9, enabled=False))
        last = rules.create(session, Clock(), tenant_id, rule(order=-5, event_type="*"))
        # when they are loaded
        loaded = rules.load(session, tenant_id)
    # then those that match come in order
    found = rules.matching(loaded, "order.created")
    assert found[0].id == first.id
    assert found[-1].id == last.id
    assert len(found) == 3
    assert [item.id for item in rules.matching(loaded, "invoice.sent")] == [last.id]


def test_conditions_and_overrides_are_loaded(db: Any, tenant_id: str) -> None:
    action = {**EMAIL, "condition": "data.total > 10", "to": "office@example.com"}
    with db.transaction(tenant(tenant_id)) as session:
        made = rules.create(session, Clock(), tenant_id, rule(condition="data.total > 5", actions=[action]))
        loaded = next(item for item in rules.load(session, tenant_id) if item.id == made.id)
    assert loaded.condition is not None
    assert loaded.condition.holds({}, {"total": 6}, {}) == (True, None)
    assert loaded.actions[0].condition is not None
    assert loaded.actions[0].condition.holds({}, {"total": 6}, {}) == (False, None)
    assert (loaded.actions[0].to, loaded.actions[0].template) == ("office@example.com", "order.created")


def test_a_stored_condition_that_no_longer_compiles_harms_no_other_rule(db: Any, tenant_id: str) -> None:
    with db.transaction(tenant(tenant_id)) as session:
        broken = rules.create(session, Clock(), tenant_id, rule())
        where = (Rule.tenant_id == tenant_id, Rule.id == broken.id)
        session.execute(update(Rule).where(*where).values(condition="nonsense("))
        loaded = {item.id: item for item in rules.load(session, tenant_id)}
    condition = loaded[broken.id].condition
    assert condition is not None
    held, why = condition.holds({}, {}, {})
    assert not held
    assert why is not None
    assert why.startswith("the condition cannot be used")
    assert len(loaded) == 1 + len(rules.SEEDS)


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"event_type": "order..created"}, "eventType"),
        ({"category": "Orders!"}, "category"),
        ({"condition": "order.total > 1"}, "condition"),
        ({"actions": []}, "actions"),
        ({"actions": [EMAIL] * 21}, "actions"),
        ({"actions": [{"channel": "email"}]}, "actions.0.template"),
        ({"actions": [EMAIL, {"channel": "sms", "template": "../x"}]}, "actions.1.template"),
        ({"actions": [{**EMAIL, "template": "a/../b"}]}, "actions.0.template"),
        ({"actions": [{**EMAIL, "condition": "data.total >"}]}, "actions.0.condition"),
        ({"actions": [{**EMAIL, "to": "nobody"}]}, "actions.0.to"),
        ({"actions": [{"channel": "sms", "template": "a", "to": "123"}]}, "actions.0.to"),
        ({"actions": [{"channel": "in_app", "template": "a", "to": "bob"}]}, "actions.0.to"),
        ({"actions": [{"channel": "webhook", "to": "ftp://example.com/"}]}, "actions.0.to"),
        ({"actions": [{"channel": "webhook", "to": "nonsense"}]}, "actions.0.to"),
        ({"actions": [{"channel": "webhook", "configuration_id": UNKNOWN}]}, "actions.0.configurationId"),
        ({"actions": [{"channel": "webhook", "configuration_id": "x"}]}, "actions.0.configurationId"),
        ({"actions": [{**EMAIL, "configuration_id": UNKNOWN}]}, "actions.0.configurationId"),
        ({"actions": [{"channel": "pigeon", "template": "a"}]}, "actions.0.channel"),
    ],
)
def test_a_wrong_field_is_named_and_nothing_is_stored(
    db: Any, tenant_id: str, fields: dict[str, Any], path: str
) -> None:
    with pytest.raises(InvalidError) as refused, db.transaction(tenant(tenant_id)) as session:
        rules.create(session, Clock(), tenant_id, rule(**fields))
    assert set(refused.value.fields) == {path}
    with db.transaction(tenant(tenant_id)) as session:
        assert len(rules.search(session, tenant_id, Cursor()).items) == len(rules.SEEDS)


@pytest.mark.parametrize("url", ["http://example.com/hook", "https://example.com/hook"])
def test_a_webhook_may_go_where_a_configuration_may(db: Any, tenant_id: str, url: str) -> None:
    with db.transaction(tenant(tenant_id)) as session:
        made = rules.create(session, Clock(), tenant_id, rule(actions=[{"channel": "webhook", "to": url}]))
        assert made.actions == [{"channel": "webhook", "to": url}]


def test_the_place_of_a_fault_is_in_its_text(db: Any, tenant_id: str) -> None:
    wrong = rule(condition="data.total > 1 &&\n  order.total > 2")
    with pytest.raises(InvalidError) as refused, db.transaction(tenant(tenant_id)) as session:
        rules.create(session, Clock(), tenant_id, wrong)
    expected = "order is not known: use event, data or recipient (line 2, column 3)"
    assert refused.value.fields == {"condition": expected}


def test_a_webhook_action_may_name_a_configuration_or_do_without_words(runtime: Runtime, tenant_id: str) -> None:
    with runtime.db.transaction(tenant(tenant_id)) as session:
        fields = {"url": "https://example.com/hook"}
        hook, _ = webhooks.create(session, runtime.vault, runtime.clock, tenant_id, fields)
        actions = [{"channel": "webhook", "configuration_id": hook.id}, {"channel": "webhook"}]
        made = rules.create(session, runtime.clock, tenant_id, rule(actions=actions))
    assert made.actions == [{"channel": "webhook", "configurationId": hook.id}, {"channel": "webhook"}]


def test_replacing_gives_what_is_left_out_its_default_again(db: Any, tenant_id: str) -> None:
    with db.transaction(tenant(tenant_id)) as session:
        made = rules.create(session, Clock(), tenant_id, rule(condition="true", order=3, critical=True, name="A"))
        found = rules.replace(session, Clock(), tenant_id, made.id, rule(event_type="order.*"))
        assert (found.condition, found.priority, found.critical, found.name) == (None, 0, False, "order.*")


@pytest.mark.parametrize("rule_id", ["nonsense", "", UNKNOWN])
def test_an_unknown_rule_is_not_found(db: Any, tenant_id: str, rule_id: str) -> None:
    for work in (rules.get, rules.remove):
        with pytest.raises(NotFoundError), db.transaction(tenant(tenant_id)) as session:
            work(session, tenant_id, rule_id)


def test_seeding_again_changes_nothing_and_a_tenant_with_rules_gets_none(db: Any, tenant_id: str) -> None:
    with db.transaction(tenant(tenant_id)) as session:
        rules.seed(session, Clock(), tenant_id)
        seeded = rules.search(session, tenant_id, Cursor()).items
        assert {item.event_type for item in seeded} == {event_type for _, event_type, *_ in rules.SEEDS}
        for item in seeded[1:]:
            rules.remove(session, tenant_id, item.id)
        rules.seed(session, Clock(), tenant_id)
        assert len(rules.search(session, tenant_id, Cursor()).items) == 1


def test_a_tenant_has_only_so_many_rules(runtime: Runtime, tenant_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # given as many as there may be: the three that ship
    monkeypatch.setattr(rules, "MAX_RULES", 3)
    # when, then
    with runtime.db.transaction(tenant(tenant_id)) as session:
        with pytest.raises(ConflictError, match="3 rules already"):
            rules.create(session, runtime.clock, tenant_id, rule())
        rules.remove(session, tenant_id, rules.search(session, tenant_id, Cursor()).items[0].id)
        rules.create(session, runtime.clock, tenant_id, rule())
