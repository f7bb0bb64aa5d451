"""Planning page by page: the next few hundred people of each event, their deliveries, and how far it has come.

An event's people are those it names, then the lists of its topics one after the other. Where it has come to is written
with the deliveries of the page, so that planning goes on there whatever happens, and nothing holds all of a list.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from app.core import preferences, recipients, rules, topics, webhooks
from app.core.deliveries import births, content, event_claims, witness
from app.core.deliveries.births import Taken, Told
from app.core.deliveries.content import Batch
from app.core.deliveries.drafts import Row
from app.core.deliveries.event_claims import ClaimedEvent
from app.core.deliveries.plan import Pace, Plan, PlannedEvent, Setting, plan
from app.core.outbox import Job, Lane, ring_after_commit
from app.core.runtime import Runtime
from app.core.webhooks import Endpoint
from app.db import Transaction
from providers.contract import Channel, DeliveryStatus

PAGE = 500  # people planned in one transaction, of all its events together


def is_one_page(event: ClaimedEvent) -> bool:
    """Whether the next page is an event's last, as far as can be told without looking."""
    return not event.topics and len(event.user_ids) - event.cursor <= PAGE


@dataclass(frozen=True, slots=True)
class Choice:
    """Which of some fresh deliveries the calling thread sends itself, and for how long it claims them."""

    of: Callable[[Sequence[Row]], Collection[str]]
    lane: Lane
    lease_seconds: float


@dataclass(frozen=True, slots=True)
class Planned:
    """What a transaction leaves: events that have more pages, those it did not come to, and what to send now."""

    begun: Sequence[ClaimedEvent]
    fresh: Sequence[ClaimedEvent]
    batches: Sequence[Batch]


@dataclass(frozen=True, slots=True)
class _Turn:
    """The people of an event whose turn it is, and where they stand: so many named ones, then parts of topics' lists.

    `moved` is the event as it stands after all of them.
    """

    event: ClaimedEvent
    people: Sequence[str]
    named: int
    parts: Sequence[tuple[int, Sequence[str]]]
    moved: ClaimedEvent

    def after(self, people: int) -> ClaimedEvent:
        """The event as it stands after the first `people` of its turn."""
        if people == len(self.people):
            return self.moved
        event = replace(self.event, cursor=self.event.cursor + people)
        left = people - self.named
        for index, members in self.parts:
            if left > 0 and members:
                event = replace(event, topic_index=index, topic_after=members[min(left, len(members)) - 1])
                left -= len(members)
        return event


def plan_page(
    session: Transaction, runtime: Runtime, tenant_id: str, group: Sequence[ClaimedEvent], choice: Choice
) -> Planned:
    """Plan the next page of each event, of as many of them as one transaction may hold."""
    now = runtime.clock.now()
    turns = _next_turns(session, group)
    pages = [_planned_event(turn.event, turn.people) for turn in turns]
    setting = _setting(session, runtime, tenant_id, pages, now)
    made, after = _plan_all(turns, pages, setting)
    # Fenced first: a worker that lost its events to another must not write their deliveries.
    owned = event_claims.advance(session, after, now)
    ours = [event for event in after if event.id in owned]
    begun = [event for event in ours if not event.finished]
    made = [row for row in made if row["event_id"] in owned]
    known = content.Known({page.id: page.context for page in pages}, setting.people, setting.endpoints)
    told, taken = Told(), frozenset[str]()
    if not any(event.failures for event in group):
        fresh = [row for row in made if row["status"] == DeliveryStatus.PENDING and row["lane"] == choice.lane]
        told = births.tell(session, runtime, fresh, known, now)
        taken = frozenset() if begun else frozenset(choice.of([row for row in fresh if row["id"] not in told.claims]))
    ends = {event.id: event.over_at for event in ours}
    inserted, claims = births.write(session, made, Taken(taken, choice.lease_seconds, ends), told, now)
    witness.planned(session, ours, now, inserted)
    for lane in {row["lane"] for row in inserted if row["status"] == DeliveryStatus.PENDING}:
        ring_after_commit(session, Job.DELIVER, Lane(lane))
    return Planned(begun, group[len(after) :], content.load(session, runtime, claims, known))


def _plan_all(
    turns: Sequence[_Turn], pages: Sequence[PlannedEvent], setting: Setting
) -> tuple[list[Row], list[ClaimedEvent]]:
    """The rows of as many events as the pace allows, one at the least, and how these events stand after it."""
    pace = Pace()
    made: list[Row] = []
    after: list[ClaimedEvent] = []
    for turn, page in zip(turns, pages, strict=True):
        if after and pace.is_over:
            break
        matching = rules.matching(setting.rules, page.event_type)
        planned = plan(page, matching, _subscribed(setting, page.event_type), setting, pace)
        made += planned.rows
        moved = turn.after(planned.people)
        after.append(replace(moved, notes=_noted(moved, planned)))
    return made, after


def _next_turns(session: Transaction, group: Sequence[ClaimedEvent]) -> list[_Turn]:
    """Whose turn it is: of the first events, one at the least, about PAGE people in all."""
    turns: list[_Turn] = []
    room = PAGE
    for event in group:
        if room <= 0:
            break
        turns.append(_next_people(session, event, _page_of(event)))
        room -= max(1, len(turns[-1].people))
    return turns


def _page_of(event: ClaimedEvent) -> int:
    """How many people are planned at a time. What went wrong with many may go well with fewer."""
    return max(1, PAGE >> 2 * event.failures)


def _next_people(session: Transaction, event: ClaimedEvent, most: int) -> _Turn:
    people = list(event.user_ids[event.cursor : event.cursor + most])
    named, parts, moved = len(people), list[tuple[int, Sequence[str]]](), event
    while len(people) < most and moved.topic_index < len(moved.topics):
        room = most - len(people)
        name = moved.topics[moved.topic_index]
        found = topics.members(session, event.tenant_id, name, after=moved.topic_after, limit=room)
        people += found
        parts.append((moved.topic_index, found))
        if len(found) < room:
            moved = replace(moved, topic_index=moved.topic_index + 1, topic_after="")
        else:
            moved = replace(moved, topic_after=found[-1])
    return _Turn(event, people, named, parts, replace(moved, cursor=event.cursor + len(people)))


def _planned_event(event: ClaimedEvent, people: Sequence[str]) -> PlannedEvent:
    alone = len(event.user_ids) == 1 and not event.topics
    return PlannedEvent(
        event.id,
        event.tenant_id,
        event.event_type,
        event.data,
        event.occurred_at,
        event.lane,
        event.test,
        people,
        first_page=(event.cursor, event.topic_index, event.topic_after) == (0, 0, ""),
        subject=event.user_ids[0] if alone else None,
        expires_at=event.expires_at,
        expired=event.is_late,
        traceparent=event.traceparent,
    )


def _subscribed(setting: Setting, event_type: str) -> list[Endpoint]:
    return [e for e in setting.endpoints.values() if e.enabled and webhooks.matches(e.event_types, event_type)]


def _setting(
    session: Transaction, runtime: Runtime, tenant_id: str, pages: Sequence[PlannedEvent], now: datetime
) -> Setting:
    user_ids = sorted({user_id for page in pages for user_id in page.user_ids})
    return Setting(
        rules.load(session, tenant_id),
        recipients.load(session, tenant_id, user_ids),
        preferences.load(session, tenant_id, user_ids),
        webhooks.enabled(session, tenant_id),
        frozenset(channel for channel in Channel if runtime.channels.providers(channel)),
        now,
    )


def _noted(event: ClaimedEvent, planned: Plan) -> list[dict[str, Any]]:
    counts = Counter({(note["ruleId"] or "", note["reason"]): note["count"] for note in event.notes})
    counts.update(planned.notes)
    return [{"ruleId": rule or None, "reason": reason, "count": count} for (rule, reason), count in counts.items()]
