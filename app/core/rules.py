"""Rules: when an event looks like this, tell its people with these actions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from app.clock import Clock
from app.core import recipients, webhooks
from app.core.conditions import Condition, ConditionError, compile_condition, usable_condition
from app.core.names import CATEGORY_FORM, is_category, is_pattern, is_template_key, matches
from app.core.outbox import Lane
from app.db import Transaction
from app.errors import ConflictError, NotFoundError, refuse
from app.ids import is_id, new_id
from app.models import Rule
from app.paging import Cursor, Page, page
from providers.contract import Channel
from providers.guard import parse_url
from providers.sms.numbers import is_e164

MAX_RULES = 200  # of one tenant; each event is held against all of them
MAX_ACTIONS = 20
MAX_NAME = 255  # characters
MAX_ORDER = 1_000_000

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
    """A rule with its conditions compiled. Its deliveries wait in `lane`; None: in the event's."""

    id: str
    name: str
    event_type: str
    condition: Condition | None
    category: str
    critical: bool
    actions: tuple[Action, ...]
    lane: str | None = None


def load(session: Transaction, tenant_id: str) -> list[LoadedRule]:
    """The enabled rules of a tenant, the highest order first, older before newer. Conditions come from a cache."""
    return [_loaded(row) for row in session.execute(_ENABLED, {"tenant": tenant_id})]


def matching(rules: Iterable[LoadedRule], event_type: str) -> list[LoadedRule]:
    """Those of the rules that speak of this event type, in their order. Conditions are not looked at."""
    return [rule for rule in rules if matches((rule.event_type,), event_type)]


def create(session: Session, clock: Clock, tenant_id: str, fields: Mapping[str, Any]) -> Rule:
    """A new rule. `fields`: name, event_type, condition, order, priority, enabled, category, critical, actions.

    `priority` is the lane its deliveries wait in, None the event's. Raises InvalidError naming each wrong field
    (`actions.0.condition`), or ConflictError: there are MAX_RULES already.
    """
    others = select(Rule.id).where(Rule.tenant_id == tenant_id).limit(MAX_RULES)
    if len(session.scalars(others).all()) >= MAX_RULES:
        raise ConflictError(f"There are {MAX_RULES} rules already.", code="too_many")
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


_JUDGED = (Rule.id, Rule.name, Rule.event_type, Rule.condition, Rule.category, Rule.critical, Rule.actions)
_ENABLED = (
    select(*_JUDGED, Rule.lane)
    .where(Rule.tenant_id == bindparam("tenant"), Rule.enabled.is_(True))
    .order_by(Rule.priority.desc(), Rule.id)
)


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
    condition = _condition(row.condition)
    return LoadedRule(row.id, row.name, row.event_type, condition, row.category, row.critical, actions, row.lane)


def _condition(text: str | None) -> Condition | None:
    return usable_condition(text) if text else None


def _checked(session: Session, tenant_id: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """All columns that a caller may set, in order, or InvalidError."""
    refuse(faults(session, tenant_id, fields))
    return {
        "name": fields.get("name") or fields["event_type"],
        "event_type": fields["event_type"],
        "condition": fields.get("condition") or None,
        "priority": fields.get("order") or 0,
        "lane": fields.get("priority"),
        "enabled": fields.get("enabled") is not False,
        "category": fields.get("category") or "general",
        "critical": fields.get("critical") is True,
        "actions": [
            {_STORED.get(name, name): value for name, value in action.items() if value is not None}
            for action in fields["actions"]
        ],
    }


def faults(session: Session, tenant_id: str, fields: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with those fields that are there: {path: why}. The same judgement as `create`'s."""
    actions = fields.get("actions")
    found = {
        "name": _if_given(fields.get("name"), _name_fault),
        "eventType": _if_given(fields.get("event_type"), _event_type_fault),
        "condition": _if_given(fields.get("condition") or None, _condition_fault),
        "order": _if_given(fields.get("order"), _order_fault),
        "priority": _if_given(fields.get("priority"), _priority_fault),
        "category": _if_given(fields.get("category") or None, _category_fault),
        "actions": None if actions is None else _fault(1 <= len(actions) <= MAX_ACTIONS, f"must be 1 to {MAX_ACTIONS}"),
    }
    judged = (actions or ())[:MAX_ACTIONS]
    known = _configurations(session, tenant_id, judged)
    for index, action in enumerate(judged):
        found |= {f"actions.{index}.{name}": fault for name, fault in _action_faults(action or {}, known).items()}
    return {path: fault for path, fault in found.items() if fault}


def _if_given(value: Any, judge: Callable[[Any], str | None]) -> str | None:
    return None if value is None else judge(value)


def _name_fault(name: str) -> str | None:
    return _fault(len(name) <= MAX_NAME, f"is longer than {MAX_NAME} characters")


def _event_type_fault(pattern: str) -> str | None:
    return _fault(is_pattern(pattern), "is not one such as order.created, order.* or *")


def _order_fault(order: int) -> str | None:
    return _fault(abs(order) <= MAX_ORDER, f"is beyond {MAX_ORDER}")


def _priority_fault(priority: str) -> str | None:
    return _fault(priority in set(Lane), f"is none of {', '.join(Lane)}")


def _category_fault(category: str) -> str | None:
    return _fault(is_category(category), f"is not {CATEGORY_FORM}")


def _configurations(session: Session, tenant_id: str, actions: Sequence[Mapping[str, Any] | None]) -> set[str]:
    wanted = [str(action["configuration_id"]) for action in actions if action and action.get("configuration_id")]
    return set(webhooks.load(session, tenant_id, filter(is_id, wanted))) if wanted else set()


def _action_faults(action: Mapping[str, Any], known: set[str]) -> dict[str, str | None]:
    channel = action.get("channel")
    found = {
        "template": _if_given(action.get("template"), _template_fault),
        "condition": _if_given(action.get("condition"), _condition_fault),
    }
    if channel not in set(Channel):  # what else there is to say depends on it
        return found | {"channel": _if_given(channel, lambda _: f"is none of {', '.join(Channel)}")}
    if action.get("template") is None and channel != Channel.WEBHOOK:
        found["template"] = "is needed on this channel"
    found["to"] = _if_given(action.get("to"), lambda address: _address_fault(channel, address))
    wanted = action.get("configuration_id")
    found["configurationId"] = _if_given(wanted, lambda wanted: _configuration_fault(channel, wanted, known))
    return found


def _template_fault(key: str) -> str | None:
    return _fault(is_template_key(key), "is not a template key such as order.created")


def _condition_fault(text: str) -> str | None:
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
