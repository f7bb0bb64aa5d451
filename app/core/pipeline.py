"""Event -> rules -> preferences -> deliveries. READ THIS FIRST.

accept_events   an event becomes a row (received); after commit the bell rings
plan_events     a worker claims it, finds its rules and people, writes its deliveries (pending),
                and sends up to 100 of them right away; more: the bell rings for the others
deliveries.send claims what is due, renders, hands over to a provider, records the result
"""

from __future__ import annotations

import itertools
import time
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

import structlog
from sqlalchemy.orm import Session

from app import rows
from app.core import dedupes, preferences, recipients, rules, topics
from app.core.dedupes import Dedupe
from app.core.deliveries import breakers, content, event_claims, pages, send, turns, witness
from app.core.deliveries.claims import BATCH
from app.core.deliveries.content import Batch
from app.core.deliveries.event_claims import ClaimedEvent
from app.core.deliveries.gates import Room
from app.core.deliveries.pages import Choice, Planned
from app.core.deliveries.plan import Row, is_over, new_row, skipped
from app.core.outbox import Job, Lane, ring_after_commit, tell_after_commit
from app.core.runtime import Runtime
from app.core.templating import RenderError, finish_html
from app.db import Purpose, Transaction, narrow, system, tenant
from app.errors import InvalidError, refuse
from app.ids import new_id
from app.metrics import EVENTS_DUPLICATE, EVENTS_PLANNED
from app.models import Delivery, Event
from providers.contract import Channel

log = structlog.get_logger()

TURN_SECONDS = 0.5  # of planning in one thread, before others have their turn
_MOST_SECONDS = event_claims.LEASE_SECONDS / 3  # of planning what was claimed at once, whatever goes wrong
_PAST = "lies in the past"
_served: dict[Lane, str] = {}
_rounds = itertools.count(1)


@dataclass(frozen=True, slots=True)
class EventInput:
    """An event as it was posted. `people` are those named inline, who are saved; they are not in `user_ids` yet.

    `topics` are names of lists. What is not sent by `expires_at` is skipped.
    """

    event_type: str
    data: Mapping[str, Any] = field(default_factory=dict)
    user_ids: tuple[str, ...] = ()
    people: tuple[dict[str, Any], ...] = ()
    occurred_at: datetime | None = None
    lane: Lane = Lane.NORMAL
    expires_at: datetime | None = None
    topics: tuple[str, ...] = ()
    dedupe: Dedupe | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The event that a post stands for. A duplicate is one that was written down before."""

    id: str
    duplicate: bool


@dataclass(frozen=True, slots=True)
class DirectSend:
    """A message that somebody wrote out: one delivery for each address of `to`.

    `content` is what `DeliveryContent.parts` says. Preferences count when `user_id` and `event_type` are given.
    """

    channel: Channel
    to: tuple[str, ...]
    content: Mapping[str, Any]
    user_id: str | None = None
    event_type: str | None = None
    test: bool = False
    lane: Lane = Lane.TRANSACTIONAL
    expires_at: datetime | None = None
    traceparent: str | None = None


def accept_events(
    session: Transaction,
    runtime: Runtime,
    tenant_id: str,
    inputs: Sequence[EventInput],
    *,
    test: bool = False,
) -> list[Accepted]:
    """Write events down and have them planned after commit. Returns what became of each, in the order of `inputs`.

    `faults` has judged them. Of a duplicate nothing is written but that it came.
    """
    now = runtime.clock.now()
    own = [(item.dedupe, new_id()) for item in inputs]
    kept = (runtime.settings.keep_events_days or dedupes.MAX_WINDOW) * 86_400
    first = dedupes.decide(session, now, tenant_id, own, test=test, most=min(kept, dedupes.MAX_WINDOW))
    accepted = [Accepted(found, found != event_id) for found, (_, event_id) in zip(first, own, strict=True)]
    fresh = [(found.id, item) for found, item in zip(accepted, inputs, strict=True) if not found.duplicate]
    if people := [person for _, item in fresh for person in item.people]:
        recipients.upsert(session, runtime.clock, tenant_id, people)
    values = [_event_row(event_id, tenant_id, item, now, test) for event_id, item in fresh]
    rows.put(session, Event, values)
    for lane in {item.lane for _, item in fresh}:
        ring_after_commit(session, Job.PLAN, lane)
    witness.accepted(session, values)
    tell_after_commit(session, partial(EVENTS_DUPLICATE.inc, len(inputs) - len(fresh)))
    return accepted


def _event_row(event_id: str, tenant_id: str, item: EventInput, now: datetime, test: bool) -> Row:
    return {
        "id": event_id,
        "tenant_id": tenant_id,
        "event_type": item.event_type,
        "data": item.data,
        "user_ids": list(dict.fromkeys((*item.user_ids, *(person["user_id"] for person in item.people)))),
        "occurred_at": item.occurred_at or now,
        "created_at": now,
        "lane": item.lane.value,
        "test": test,
        "status": "received",
        "next_attempt_at": now,
        "expires_at": item.expires_at,
        "traceparent": item.traceparent,
        "topics": list(dict.fromkeys(item.topics)),
        "dedupe_key": item.dedupe.key if item.dedupe else None,
    }


def faults(
    session: Session, runtime: Runtime, tenant_id: str, inputs: Sequence[EventInput]
) -> dict[int, dict[str, str]]:
    """What is wrong with events as things stand: {index in `inputs`: {path: why}}."""
    now = runtime.clock.now()
    unknown = topics.unknown(session, tenant_id, {name for item in inputs for name in item.topics})
    found: dict[int, dict[str, str]] = defaultdict(dict)
    for index, item in enumerate(inputs):
        if is_over(item.expires_at, now):
            found[index]["expiresAt"] = _PAST
        for place, name in enumerate(item.topics):
            if name in unknown:
                found[index][f"topics.{place}"] = "there is no such topic"
    return dict(found)


def send_direct(session: Session, runtime: Runtime, tenant_id: str, message: DirectSend) -> list[str]:
    """Write down one delivery for each address, with its content, and have them sent after commit.

    Raises InvalidError naming `html` or `expiresAt`.
    """
    now, lane = runtime.clock.now(), message.lane
    refuse({"expiresAt": _PAST} if is_over(message.expires_at, now) else {})
    parts = _finished(message)
    category, reason = _judged(session, runtime, tenant_id, message)
    made, contents = [], {}
    for position, address in enumerate(message.to):
        row = new_row(new_id(), tenant_id, message.channel, now, lane.value, test=message.test)
        row |= {"user_id": message.user_id, "event_type": message.event_type, "address": address, "trigger": "direct"}
        row |= {"category": category, "expires_at": message.expires_at, "traceparent": message.traceparent}
        if message.channel is Channel.IN_APP:
            row["user_id"] = address
        made.append(skipped(row, reason) if reason else row)
        contents[row["id"]] = _first_only(parts, position)
    rows.insert(session, Delivery, made)
    content.keep(session, tenant_id, contents, now)
    witness.sends_accepted(session, made)
    ring_after_commit(session, Job.DELIVER, lane)
    return [row["id"] for row in made]


def _finished(message: DirectSend) -> Mapping[str, Any]:
    """The content as it will go out; HTML as templates' HTML does. Raises InvalidError naming `html`."""
    html = message.content.get("html")
    if not html:
        return message.content
    try:
        styled, plain = finish_html(html, message.content.get("text") or "")
    except RenderError as error:
        raise InvalidError({"html": str(error)}) from None
    return {**message.content, "html": styled, "text": plain}


def _first_only(parts: Mapping[str, Any], position: int) -> dict[str, Any]:
    """cc and bcc ride on the first delivery: nobody should get the same copy for each address."""
    return {key: value for key, value in parts.items() if position == 0 or key not in ("cc", "bcc")}


def _judged(session: Session, runtime: Runtime, tenant_id: str, message: DirectSend) -> tuple[str | None, str | None]:
    """The category of a direct send and, if it must not go out, the reason."""
    category, critical = message.event_type, False
    if message.user_id and message.event_type:
        matching = rules.matching(rules.load(session, tenant_id), message.event_type)
        category = matching[0].category if matching else message.event_type
        critical = any(rule.critical for rule in matching)
    if message.test:
        return category, "test_key"
    if not runtime.channels.providers(message.channel):
        return category, "no_provider"
    if not (message.user_id and category):
        return category, None
    choices = preferences.load(session, tenant_id, [message.user_id])
    decision = choices.allows(message.user_id, category, message.channel, critical=critical)
    return category, None if decision.enabled else f"preference_{decision.decided_by}"


def plan_in_turn(runtime: Runtime, lane: Lane) -> int:
    """Plan batch after batch of a lane's received events, for TURN_SECONDS at most. Returns how many."""
    end, total = time.monotonic() + TURN_SECONDS, 0
    while True:
        claimed, more = _plan_batch(runtime, lane)
        total += claimed
        if not more or time.monotonic() >= end or runtime.stopping.is_set():
            return total


def plan_events(runtime: Runtime, lane: Lane) -> int:
    """Plan one batch of a lane's received events, of one tenant; send the first of what it makes. Returns how many."""
    return _plan_batch(runtime, lane)[0]


def _plan_batch(runtime: Runtime, lane: Lane) -> tuple[int, bool]:
    """(how many were claimed, whether more wait). Others hear of that too, and help."""
    now = runtime.clock.now()
    with runtime.db.work(system(Purpose.CLAIM)) as session:
        waiting = event_claims.tenants(session, lane, now)
        if not waiting:
            return 0, False
        breakers.glance(session, runtime)  # so that nothing is claimed for what does not answer
        tenant_id = next((one for one in waiting if one > _served.get(lane, "")), waiting[0])
        _served[lane] = tenant_id
        breakers.glance(session, runtime, tenant_id)
        narrow(session, tenant(tenant_id))
        suspects_first = next(_rounds) % event_claims.SUSPECTS_EVERY == 0
        claimed = event_claims.claim(session, lane, tenant_id, now, suspects_first=suspects_first)
    more = len(waiting) > 1 or len(claimed) == event_claims.BATCH
    if more:
        runtime.bell.ring_soon(Job.PLAN, lane)
    if not claimed:
        return 0, False
    _plan_and_send(runtime, tenant_id, lane, claimed)
    return len(claimed), more


def _plan_and_send(runtime: Runtime, tenant_id: str, lane: Lane, claimed: Sequence[ClaimedEvent]) -> None:
    """Plan for one turn, give back what is left, and only then send: receivers take longer than leases last."""
    batches: list[Batch] = []
    with Room(runtime, lane) as room:
        try:
            fresh, begun = _plan_for_a_turn(runtime, tenant_id, lane, claimed, room, batches)
            if fresh or begun:
                with runtime.db.work(tenant(tenant_id)) as session:
                    event_claims.give_back(session, fresh, begun, runtime.clock.now())
                    ring_after_commit(session, Job.PLAN, lane)
        finally:
            send.send_batches(runtime, batches, room)


def _plan_for_a_turn(
    runtime: Runtime, tenant_id: str, lane: Lane, claimed: Sequence[ClaimedEvent], room: Room, batches: list[Batch]
) -> tuple[list[ClaimedEvent], list[ClaimedEvent]]:
    """Plan page after page, of each event in its turn, until there is something to send or TURN_SECONDS are over.

    So tenants and events take turns, however many people one of them has. Adds to `batches`; returns the events that
    were not begun, and those that have more pages.
    """
    started = time.monotonic()
    small = [event for event in claimed if pages.is_one_page(event)]
    large = [[event] for event in claimed if not pages.is_one_page(event)]
    fresh, begun = deque([small, *large] if small else large), deque[ClaimedEvent]()
    must = 2 if small and large else 1  # a tenant that always has small events gets on with its large ones too
    while fresh or begun:
        group = fresh.popleft() if fresh else [begun.popleft()]
        planned = _plan_safely(runtime, tenant_id, lane, group, None if batches else room)
        must -= 1
        if planned is None:
            fresh.extendleft([event] for event in reversed(group))
            must += len(group)
        else:
            begun.extend(planned.begun)
            fresh.extend([list(planned.fresh)] if planned.fresh else [])
            batches += planned.batches
        spent = time.monotonic() - started
        if spent > _MOST_SECONDS or (must <= 0 and (batches or spent > TURN_SECONDS)):
            break
    return [event for group in fresh for event in group], list(begun)


def _plan_safely(
    runtime: Runtime, tenant_id: str, lane: Lane, group: Sequence[ClaimedEvent], room: Room | None
) -> Planned | None:
    """Plan a page of each event. None: it went wrong, and each has to be planned on its own, so that a bad one harms
    only itself. Without `room` nothing is sent at once.
    """
    few = partial(_few, runtime, tenant_id, room) if room else _none
    try:
        with runtime.db.work(tenant(tenant_id)) as session:
            return pages.plan_page(session, runtime, tenant_id, group, Choice(few, lane, send.longest_lease(runtime)))
    except Exception as error:
        log.exception("planning_failed", events=[event.id for event in group])
        if len(group) > 1:
            return None
        _put_back(runtime, group[0], type(error).__name__)
        return Planned((), (), ())


def _put_back(runtime: Runtime, event: ClaimedEvent, error: str) -> None:
    with runtime.db.work(tenant(event.tenant_id)) as session:
        failed = event_claims.put_back(session, event, runtime.clock.now(), error)
    EVENTS_PLANNED.labels("failed" if failed else "put_back").inc()


def _few(runtime: Runtime, tenant_id: str, room: Room, fresh: Sequence[Row]) -> list[str]:
    """Of fresh deliveries the first of each channel, for which this thread has room now. The others are for whoever
    hears the bell."""
    mine: dict[str, list[str]] = defaultdict(list)
    for row in turns.at_once(runtime, fresh):
        mine[row["channel"]].append(row["id"])
    return [found for channel, ids in mine.items() if room.enter(channel, tenant_id) for found in ids[:BATCH]]


def _none(_fresh: Sequence[Row]) -> list[str]:
    return []
