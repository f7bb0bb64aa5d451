"""Which deliveries an event makes: rules, people and preferences in, rows out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from app.core.deliveries.claims import FIRST
from app.core.deliveries.content import event_context, person_context
from app.core.preferences import Choices
from app.core.recipients import Person
from app.core.rules import Action, LoadedRule
from app.core.webhooks import Endpoint
from app.ids import derived_id
from providers.contract import Channel, DeliveryStatus

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class PlannedEvent:
    """An event that is being planned. `user_ids` is the page of people whose turn it is."""

    id: str
    tenant_id: str
    event_type: str
    data: Mapping[str, Any]
    occurred_at: datetime
    lane: str
    test: bool
    user_ids: Sequence[str]
    first_page: bool = True


@dataclass(frozen=True, slots=True)
class Setting:
    """What a tenant's events are planned with."""

    rules: Sequence[LoadedRule]
    people: Mapping[str, Person]
    choices: Choices
    endpoints: Mapping[str, Endpoint]
    served: frozenset[Channel]
    now: datetime


@dataclass(slots=True)
class Plan:
    """The rows of one page, and why rules were passed over: {(rule id, reason): how often}."""

    rows: list[Row] = field(default_factory=list)
    notes: Counter[tuple[str, str]] = field(default_factory=Counter)


def plan(event: PlannedEvent, rules: Sequence[LoadedRule], subscribed: Sequence[Endpoint], setting: Setting) -> Plan:
    """The deliveries of one page of an event.

    `rules` are those that match its type, `subscribed` the configurations that want it without any rule.
    Webhooks are made once, with the first page. The ids come from the event, so planning again is harmless.
    """
    made = Plan()
    context = event_context(event.id, event.event_type, event.occurred_at, event.data)
    for rule in rules:
        made.rows += _webhooks_of_rule(event, rule, subscribed, setting, context, made)
    if event.first_page:
        made.rows += [_webhook_row(event, setting, endpoint, None, None) for endpoint in subscribed]
    for user_id in event.user_ids:
        person = setting.people.get(user_id)
        told = person_context(user_id, person)
        for rule in rules:
            made.rows += _rows_of_person(event, rule, user_id, person, told, context, setting, made)
    made.rows = list({row["id"]: row for row in reversed(made.rows)}.values())[::-1]  # the first of an id counts
    return made


def _rows_of_person(
    event: PlannedEvent,
    rule: LoadedRule,
    user_id: str,
    person: Person | None,
    told: Mapping[str, Any],
    context: Mapping[str, Any],
    setting: Setting,
    made: Plan,
) -> Iterator[Row]:
    if not _holds(rule.condition, rule, event, context, told, made):
        return
    for index, action in enumerate(rule.actions):
        channel = Channel(action.channel)
        if channel is Channel.WEBHOOK or not _holds(action.condition, rule, event, context, told, made):
            continue
        row = _row(event, setting, channel, derived_id(event.id, rule.id, str(index), user_id))
        row |= {"rule_id": rule.id, "user_id": user_id, "category": rule.category, "template": action.template}
        row["address"] = action.to or address_of(channel, user_id, person) or ""
        reason = _why_not(event, row["address"], channel, setting)
        if reason is None:
            decision = setting.choices.allows(user_id, rule.category, channel, critical=rule.critical)
            reason = None if decision.enabled else f"preference_{decision.decided_by}"
        yield skipped(row, reason) if reason else row


def _webhooks_of_rule(
    event: PlannedEvent,
    rule: LoadedRule,
    subscribed: Sequence[Endpoint],
    setting: Setting,
    context: Mapping[str, Any],
    made: Plan,
) -> Iterator[Row]:
    """A rule's webhook action names a configuration or a URL; naming neither, it gives words to the subscribed ones."""
    actions = [(i, a) for i, a in enumerate(rule.actions) if a.channel == Channel.WEBHOOK]
    if not event.first_page or not actions or not _holds(rule.condition, rule, event, context, {}, made):
        return
    for index, action in actions:
        if not _holds(action.condition, rule, event, context, {}, made):
            continue
        if action.to:
            row = _row(event, setting, Channel.WEBHOOK, derived_id(event.id, rule.id, str(index), action.to))
            yield row | {
                "rule_id": rule.id,
                "category": rule.category,
                "template": action.template,
                "address": action.to,
            }
            continue
        named = _named(action, subscribed, setting)
        for endpoint in named:
            yield _webhook_row(event, setting, endpoint, rule, action)
        if not named:
            row = _row(event, setting, Channel.WEBHOOK, derived_id(event.id, rule.id, str(index), "nobody"))
            row |= {"rule_id": rule.id, "category": rule.category, "template": action.template, "address": ""}
            yield skipped(row, "no_endpoint")


def _named(action: Action, subscribed: Sequence[Endpoint], setting: Setting) -> Sequence[Endpoint]:
    if action.configuration_id is None:
        return subscribed
    endpoint = setting.endpoints.get(action.configuration_id)
    return [endpoint] if endpoint and endpoint.enabled else []


def _webhook_row(
    event: PlannedEvent, setting: Setting, endpoint: Endpoint, rule: LoadedRule | None, action: Action | None
) -> Row:
    """One event goes to one configuration once, however many rules name it."""
    row = _row(event, setting, Channel.WEBHOOK, derived_id(event.id, "configuration", endpoint.id))
    row |= {"configuration_id": endpoint.id, "address": endpoint.url}
    if rule and action:
        row |= {"rule_id": rule.id, "category": rule.category, "template": action.template}
    reason = _why_not(event, endpoint.url, Channel.WEBHOOK, setting)
    return skipped(row, reason) if reason else row


def _holds(
    condition: Any,
    rule: LoadedRule,
    event: PlannedEvent,
    context: Mapping[str, Any],
    told: Mapping[str, Any],
    made: Plan,
) -> bool:
    if condition is None:
        return True
    holds, reason = condition.holds(context, event.data, told)
    if reason:
        made.notes[rule.id, reason] += 1
    return bool(holds)


def _why_not(event: PlannedEvent, address: str, channel: Channel, setting: Setting) -> str | None:
    if event.test:
        return "test_key"
    if channel not in setting.served:
        return "no_provider"
    return None if address else "no_address"


def address_of(channel: Channel, user_id: str, person: Person | None) -> str | None:
    """Where a person is reached on a channel."""
    if channel is Channel.IN_APP:
        return user_id
    if person is None:
        return None
    return person.email if channel is Channel.EMAIL else person.phone


def _row(event: PlannedEvent, setting: Setting, channel: Channel, delivery_id: str) -> Row:
    return new_row(delivery_id, event.tenant_id, channel, setting.now, event.lane, test=event.test) | {
        "event_id": event.id,
        "event_type": event.event_type,
    }


def new_row(delivery_id: str, tenant_id: str, channel: Channel, now: datetime, lane: str, *, test: bool = False) -> Row:
    """A pending delivery with nothing about its reason yet; all keys are there, as bulk inserts want them."""
    return {
        "id": delivery_id,
        "tenant_id": tenant_id,
        "event_id": None,
        "event_type": None,
        "rule_id": None,
        "configuration_id": None,
        "user_id": None,
        "channel": channel.value,
        "category": None,
        "template": None,
        "address": "",
        "trigger": "event",
        "lane": lane,
        "status": DeliveryStatus.PENDING.value,
        "reason": None,
        "turn": FIRST,
        "attempt": 0,
        "tries": 0,
        "losses": 0,
        "next_attempt_at": now,
        "test": test,
        "created_at": now,
        "updated_at": now,
    }


def skipped(row: Row, reason: str) -> Row:
    """The same row, decided against for `reason`."""
    return row | {"status": DeliveryStatus.SKIPPED.value, "reason": reason, "next_attempt_at": None}
