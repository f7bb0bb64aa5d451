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
from app.core import dedupes, recipients, topics
from app.core.dedupes import Dedupe
from app.core.deliveries import breakers, event_claims, pages, send, turns, witness
from app.core.deliveries.claims import BATCH
from app.core.deliveries.content import Batch
from app.core.deliveries.drafts import IS_PAST, Row, is_over
from app.core.deliveries.event_claims import ClaimedEvent
from app.core.deliveries.gates import Room
from app.core.deliveries.pages import Choice, Planned
from app.core.outbox import Job, Lane, ring_after_commit, tell_after_commit
from app.core.runtime import Runtime
from app.db import Transaction, narrow
from app.ids import new_id
from app.metrics import EVENTS_DUPLICATE, EVENTS_PLANNED
from app.models import Event
from app.tenancy import Purpose, system, tenant

log = structlog.get_logger()

TURN_SECONDS = 0.5  # of planning in one thread, before others have their turn
_MOST_SECONDS = event_claims.LEASE_SECONDS / 3  # of planning what was claimed at once, whatever goes wrong
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
            found[index]["expiresAt"] = IS_PAST
        for place, name in enumerate(item.topics):
            if name in unknown:
                found[index][f"topics.{place}"] = "there is no such topic"
    return dict(found)


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
