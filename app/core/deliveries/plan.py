"""Which deliveries an event makes: rules, people and preferences in, rows out."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from app.core.conditions import Condition
from app.core.deliveries.contexts import event_context, person_context
from app.core.deliveries.drafts import Row, new_row, skipped
from app.core.preferences import Choices
from app.core.recipients import Person
from app.core.rules import Action, LoadedRule
from app.core.webhooks import Endpoint
from app.ids import derived_id
from providers.contract import Channel, DeliveryStatus

Told = Mapping[str, Any]

PLAN_SECONDS = 0.25  # of planning in one transaction; who is left over has the next
MOST_ROWS = 5_000  # planned in one transaction
JUDGING_SECONDS = 8.0  # of CPU for one transaction's conditions; the next person may be too much, and a lease is longer
_TOO_SLOW = f"the conditions of the rules took more than {JUDGING_SECONDS:g} seconds"


@dataclass(frozen=True, slots=True)
class PlannedEvent:
    """An event that is being planned. `user_ids` is the page of people whose turn it is.

    `subject` is the one person it is about; None: nobody, or several. `expired`: it is too late to send what it makes.
    """

    id: str
    tenant_id: str
    event_type: str
    data: Mapping[str, Any]
    occurred_at: datetime
    lane: str
    test: bool
    user_ids: Sequence[str]
    first_page: bool = True
    subject: str | None = None
    expires_at: datetime | None = None
    expired: bool = False
    traceparent: str | None = None

    @property
    def context(self) -> dict[str, Any]:
        """The event as templates and conditions see it."""
        return event_context(self.id, self.event_type, self.occurred_at, self.data)


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
class Pace:
    """How far one transaction goes: it keeps others waiting, and its events are leased for a time."""

    rows: int = 0
    began: float = field(default_factory=time.monotonic)
    cpu: float = field(default_factory=time.thread_time)

    @property
    def is_over(self) -> bool:
        """Whether others should have their turn."""
        return self.rows >= MOST_ROWS or time.monotonic() > self.began + PLAN_SECONDS

    @property
    def has_stopped(self) -> bool:
        """Whether not even the person whose turn it is can be judged any more. A process that slept is not at fault."""
        late = time.monotonic() > self.began + JUDGING_SECONDS
        return late and time.thread_time() - self.cpu > JUDGING_SECONDS


@dataclass(slots=True)
class Plan:
    """The rows of one page, why rules were passed over: {(rule id, reason): how often}, and how many people had their
    turn: the first `people` of the event's.
    """

    rows: list[Row] = field(default_factory=list)
    notes: Counter[tuple[str, str]] = field(default_factory=Counter)
    people: int = 0


def plan(
    event: PlannedEvent, rules: Sequence[LoadedRule], subscribed: Sequence[Endpoint], setting: Setting, pace: Pace
) -> Plan:
    """The deliveries of one page of an event, or of its first people when the pace is over; of one at the least.

    `rules` are those that match its type, `subscribed` the configurations that want it without any rule.
    Webhooks are made once, with the first page. The ids come from the event, so planning again is harmless.
    """
    page = _Page(event, setting, pace)
    if event.first_page:
        for rule in rules:
            page.add(page.webhooks_of(rule, subscribed))
            page.add(page.redirected(rule))
        page.add(page.webhook(endpoint) for endpoint in subscribed)
        if not rules and not subscribed:
            page.notes["", "no rule and no webhook configuration wants this event type"] += 1
    people, seen = 0, set[str]()
    for user_id in event.user_ids:
        people += 1
        if user_id not in seen:  # several lists may name one
            seen.add(user_id)
            person = setting.people.get(user_id)
            told = person_context(user_id, person)
            for rule in rules:
                page.add(page.messages_of(rule, user_id, person, told))
        if pace.is_over:
            break
    return Plan(list(page.rows.values()), page.notes, people)


class _Page:
    """One page while it is being planned."""

    def __init__(self, event: PlannedEvent, setting: Setting, pace: Pace) -> None:
        self.rows: dict[str, Row] = {}
        self.notes: Counter[tuple[str, str]] = Counter()
        self._event = event
        self._setting = setting
        self._pace = pace
        self._subscribers: set[str] = set()
        self._context = event.context
        self._judged: dict[Condition, bool] = {}

    def add(self, rows: Iterable[Row]) -> None:
        """Keep rows; of several with one id the first counts."""
        for row in rows:
            self._pace.rows += row["id"] not in self.rows
            self.rows.setdefault(row["id"], row)

    def messages_of(self, rule: LoadedRule, user_id: str, person: Person | None, told: Told) -> Iterator[Row]:
        """What one rule has for one person: a row for each action but webhooks, skipped ones with their reason."""
        if not self._holds(rule, rule.condition, told):
            return
        for index, action in enumerate(rule.actions):
            channel = Channel(action.channel)
            if channel is Channel.WEBHOOK or action.to or not self._holds(rule, action.condition, told):
                continue
            address = address_of(channel, user_id, person) or ""
            row = self._row(channel, address, rule, action, str(index), user_id)
            yield self._asked(row, rule, user_id)

    def redirected(self, rule: LoadedRule) -> Iterator[Row]:
        """What one rule sends to an address of its own: once for the event, however many people it has.

        Of one person the words may speak, and their preferences count; of several neither.
        """
        actions = [(i, a) for i, a in enumerate(rule.actions) if a.to and a.channel != Channel.WEBHOOK]
        user_id = self._event.subject
        told = person_context(user_id, self._setting.people.get(user_id or ""))
        if not actions or not self._holds(rule, rule.condition, told):
            return
        for index, action in actions:
            if self._holds(rule, action.condition, told):
                row = self._row(Channel(action.channel), action.to or "", rule, action, str(index), action.to or "")
                yield self._asked(row, rule, user_id) if user_id else row

    def _asked(self, row: Row, rule: LoadedRule, user_id: str) -> Row:
        """The row with its person, skipped if they do not want it."""
        row |= {"user_id": user_id}
        if row["status"] == DeliveryStatus.PENDING:
            channel = Channel(row["channel"])
            decision = self._setting.choices.allows(user_id, rule.category, channel, critical=rule.critical)
            if not decision.enabled:
                return skipped(row, f"preference_{decision.decided_by}")
        return row

    def webhooks_of(self, rule: LoadedRule, subscribed: Sequence[Endpoint]) -> Iterator[Row]:
        """What one rule has for webhooks: to a URL or a configuration that it names.

        Naming neither, it gives its words to those who are subscribed.
        """
        if not any(action.channel == Channel.WEBHOOK for action in rule.actions):
            return
        if not self._holds(rule, rule.condition, {}):
            return
        for index, action in enumerate(rule.actions):
            if action.channel != Channel.WEBHOOK or not self._holds(rule, action.condition, {}):
                continue
            named = [] if action.to else self._named(action, subscribed)
            for endpoint in named:
                if endpoint.id not in self._subscribers:  # many rules times many subscribers is too much to throw away
                    self._subscribers.add(endpoint.id)
                    yield self.webhook(endpoint, rule, action)
            if not named:
                row = self._row(Channel.WEBHOOK, action.to or "", rule, action, str(index), action.to or "nobody")
                yield skipped(row, "no_endpoint") if row["reason"] == "no_address" else row

    def webhook(self, endpoint: Endpoint, rule: LoadedRule | None = None, action: Action | None = None) -> Row:
        """One event goes to one configuration once, however many rules name it."""
        row = self._row(Channel.WEBHOOK, endpoint.url, rule, action, "configuration", endpoint.id)
        return row | {
            "id": derived_id(self._event.id, "configuration", endpoint.id),
            "configuration_id": endpoint.id,
        }

    def _named(self, action: Action, subscribed: Sequence[Endpoint]) -> Sequence[Endpoint]:
        if action.configuration_id is None:
            return subscribed
        endpoint = self._setting.endpoints.get(action.configuration_id)
        return [endpoint] if endpoint and endpoint.enabled else []

    def _row(
        self, channel: Channel, address: str, rule: LoadedRule | None, action: Action | None, *identity: str
    ) -> Row:
        event = self._event
        delivery_id = derived_id(event.id, rule.id if rule else "", *identity)
        lane = rule.lane if rule and rule.lane else event.lane
        row = new_row(delivery_id, event.tenant_id, channel, self._setting.now, lane, test=event.test)
        row |= {
            "expires_at": event.expires_at,
            "traceparent": event.traceparent,
            "event_id": event.id,
            "event_type": event.event_type,
            "address": address,
        }
        if rule and action:
            row |= {"rule_id": rule.id, "category": rule.category, "template": action.template}
        reason = self._why_not(address, channel)
        return skipped(row, reason) if reason else row

    def _why_not(self, address: str, channel: Channel) -> str | None:
        if self._event.test:
            return "test_key"
        if self._event.expired:
            return "expired"
        if channel not in self._setting.served:
            return "no_provider"
        return None if address else "no_address"

    def _holds(self, rule: LoadedRule, condition: Condition | None, told: Told) -> bool:
        if condition is None:
            return True
        if condition in self._judged:
            return self._judged[condition]
        if self._pace.has_stopped:
            self.notes[rule.id, _TOO_SLOW] += 1
            return False
        holds, reason = condition.holds(self._context, self._event.data, told)
        if reason:
            self.notes[rule.id, reason] += 1
        if "recipient" not in condition.roots:  # then it is the same for everybody
            self._judged[condition] = holds
        return holds


def address_of(channel: Channel, user_id: str, person: Person | None) -> str | None:
    """Where a person is reached on a channel."""
    if channel is Channel.IN_APP:
        return user_id
    if person is None:
        return None
    return person.email if channel is Channel.EMAIL else person.phone
