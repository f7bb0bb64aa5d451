"""Rules: when an event looks like this, tell its people with these actions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.clock import Clock
from app.core import recipients, webhooks
from app.core.conditions import Condition, ConditionError, compile_condition, usable_condition
from app.core.names import CATEGORY_FORM, is_category, is_pattern, is_template_key, matches
from app.errors import InvalidError, NotFoundError
from app.ids import is_id, new_id
from app.models import Rule
from app.paging import Cursor, Page, page
from providers.contract import Channel
from providers.guard import parse_url
from providers.sms.numbers import is_e164

MAX_ACTIONS = 20
MAX_NAME = 255  # characters
MAX_PRIORITY = 1_000_000

_STORED = {"configuration_id": "configurationId"}
_EVERY_CHANNEL = ("email", "sms", "in_app", "webhook")

SEEDS: tuple[tuple[str, str, str, bool, tuple[str, ...]], ...] = (
    # name, event type (and template key), category, critical, channels
    ("Welcome", "user.registered", "account", False, _EVERY_CHANNEL),
    ("Order confirmation", "order.created", "orders", False, _EVERY_CHANNEL),
    ("Payment failed", "subscription.payment_failed", "billing", True, _EVERY_CHANNEL),
)


@dataclass(frozen=True, slots=True)
class Action:
    """One message that a rule asks for. `to` overrides the recipient's address; `template` may be None for webhook."""

    channel: str
    template: str | None
    condition: Condition | None
    to: str | None
    configuration_id: str | None


@dataclass(frozen=True, slots=True)
class LoadedRule:
    """A rule with its conditions compiled."""

    id: str
    name: str
    event_type: str
    condition: Condition | None
    category: str
    critical: bool
    actions: tuple[Action, ...]


def load(session: Session, tenant_id: str) -> list[LoadedRule]:
    """The enabled rules of a tenant, the highest priority first, older before newer. Conditions come from a cache."""
    columns = (Rule.id, Rule.name, Rule.event_type, Rule.condition, Rule.category, Rule.critical, Rule.actions)
    query = select(*columns).where(Rule.tenant_id == tenant_id, Rule.enabled.is_(True))
    return [_loaded(row) for row in session.execute(query.order_by(Rule.priority.desc(), Rule.id))]


def matching(rules: Iterable[LoadedRule], event_type: str) -> list[LoadedRule]:
    """Those of the rules that speak of this event type, in their order. Conditions are not looked at."""
    return [rule for rule in rules if matches((rule.event_type,), event_type)]


def create(session: Session, clock: Clock, tenant_id: str, fields: Mapping[str, Any]) -> Rule:
    """A new rule. `fields`: name, event_type, condition, priority, enabled, category, critical, actions.

    Raises InvalidError naming each wrong field (`actions.0.condition`).
    """
    clean = _checked(session, tenant_id, fields)
    made = Rule(id=new_id(), tenant_id=tenant_id, created_at=clock.now(), updated_at=clock.now(), **clean)
    session.add(made)
    session.flush()
    return made


def replace(session: Session, clock: Clock, tenant_id: str, rule_id: str, fields: Mapping[str, Any]) -> Rule:
    """Replace a rule whole. Raises NotFoundError, InvalidError."""
    found = get(session, tenant_id, rule_id)
    for name, value in _checked(session, tenant_id, fields).items():
        setattr(found, name, value)
    found.updated_at = clock.now()
    session.flush()
    return found


def get(session: Session, tenant_id: str, rule_id: str) -> Rule:
    """One rule. Raises NotFoundError."""
    found = session.get(Rule, (tenant_id, rule_id)) if is_id(rule_id) else None
    if found is None:
        raise NotFoundError("There is no rule with this id.")
    return found


def search(session: Session, tenant_id: str, cursor: Cursor) -> Page[Rule]:
    """A tenant's rules, the newest first."""
    return page(session, select(Rule).where(Rule.tenant_id == tenant_id), Rule.id, cursor)


def remove(session: Session, tenant_id: str, rule_id: str) -> None:
    """Delete a rule. Raises NotFoundError."""
    session.delete(get(session, tenant_id, rule_id))
    session.flush()


def seed(session: Session, clock: Clock, tenant_id: str) -> None:
    """Give a tenant that has no rule at all the rules of `SEEDS`, so that the first event finds its way."""
    if search(session, tenant_id, Cursor(limit=1)).items:
        return
    for name, event_type, category, critical, channels in SEEDS:
        actions = [{"channel": channel, "template": event_type} for channel in channels]
        fields = {"name": name, "event_type": event_type, "category": category, "critical": critical}
        create(session, clock, tenant_id, fields | {"actions": actions})


def _loaded(row: Any) -> LoadedRule:
    actions = tuple(
        Action(
            item["channel"],
            item.get("template"),
            _condition(item.get("condition")),
            item.get("to"),
            item.get("configurationId"),
        )
        for item in row.actions
    )
    return LoadedRule(row.id, row.name, row.event_type, _condition(row.condition), row.category, row.critical, actions)


def _condition(text: str | None) -> Condition | None:
    return usable_condition(text) if text else None


def _checked(session: Session, tenant_id: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """All columns that a caller may set, in order, or InvalidError."""
    clean = {
        "name": fields.get("name") or fields["event_type"],
        "event_type": fields["event_type"],
        "condition": fields.get("condition") or None,
        "priority": fields.get("priority") or 0,
        "enabled": fields.get("enabled") is not False,
        "category": fields.get("category") or "general",
        "critical": fields.get("critical") is True,
    }
    faults = {
        "name": _fault(len(clean["name"]) <= MAX_NAME, f"is longer than {MAX_NAME} characters"),
        "eventType": _fault(is_pattern(clean["event_type"]), "is not one such as order.created, order.* or *"),
        "condition": _condition_fault(clean["condition"]),
        "priority": _fault(abs(clean["priority"]) <= MAX_PRIORITY, f"is beyond {MAX_PRIORITY}"),
        "category": _fault(is_category(clean["category"]), f"is not {CATEGORY_FORM}"),
        "actions": _fault(1 <= len(fields["actions"]) <= MAX_ACTIONS, f"must be 1 to {MAX_ACTIONS}"),
    }
    actions = fields["actions"][:MAX_ACTIONS]
    known = _configurations(session, tenant_id, actions)
    for index, action in enumerate(actions):
        faults |= {f"actions.{index}.{name}": fault for name, fault in _action_faults(action, known).items()}
    if found := {path: fault for path, fault in faults.items() if fault}:
        raise InvalidError(found)
    clean["actions"] = [
        {_STORED.get(name, name): value for name, value in action.items() if value is not None} for action in actions
    ]
    return clean


def _configurations(session: Session, tenant_id: str, actions: Sequence[Mapping[str, Any]]) -> set[str]:
    wanted = [str(action["configuration_id"]) for action in actions if action.get("configuration_id")]
    return set(webhooks.load(session, tenant_id, filter(is_id, wanted))) if wanted else set()


def _action_faults(action: Mapping[str, Any], known: set[str]) -> dict[str, str | None]:
    channel, template = action["channel"], action.get("template")
    if channel not in set(Channel):
        return {"channel": f"is none of {', '.join(Channel)}"}
    configuration = action.get("configuration_id")
    return {
        "template": _template_fault(template, needed=channel != "webhook"),
        "condition": _condition_fault(action.get("condition")),
        "to": _address_fault(channel, action["to"]) if action.get("to") is not None else None,
        "configurationId": None if configuration is None else _configuration_fault(channel, configuration, known),
    }


def _template_fault(key: str | None, *, needed: bool) -> str | None:
    if key is None:
        return "is needed on this channel" if needed else None
    return _fault(is_template_key(key), "is not a template key such as order.created")


def _condition_fault(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        compile_condition(text)
    except ConditionError as error:
        return str(error)
    return None


def _address_fault(channel: str, address: str) -> str | None:
    try:
        if channel == Channel.EMAIL:
            recipients.email(address)
        elif channel == Channel.SMS:
            return _fault(is_e164(address), "is not a phone number such as +4915112345678")
        elif channel == Channel.WEBHOOK:
            parse_url(address)  # http or https, as for configurations; what it leads to is judged at each delivery
        else:
            return "in-app notifications go to the recipient"
    except ValueError as error:
        return str(error)
    return None


def _configuration_fault(channel: str, configuration_id: str, known: set[str]) -> str | None:
    if channel != Channel.WEBHOOK:
        return "only a webhook action may name one"
    return _fault(configuration_id in known, "there is no such webhook configuration")


def _fault(right: Any, otherwise: str) -> str | None:
    return None if right else otherwise
