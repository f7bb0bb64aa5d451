"""Event -> rules -> preferences -> deliveries. READ THIS FIRST.

accept_events   an event becomes a row (received); after commit the bell rings
plan_events     a worker claims it, finds its rules and people, writes its deliveries (pending),
                and sends up to 100 of them right away; more: the bell rings for the others
deliveries.send claims what is due, renders, hands over to a provider, records the result
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy.orm import Session

from app import rows
from app.core import preferences, recipients, rules, webhooks
from app.core.deliveries import claims, content, event_claims, send
from app.core.deliveries.claims import BATCH
from app.core.deliveries.content import Batch
from app.core.deliveries.event_claims import ClaimedEvent
from app.core.deliveries.gates import Room
from app.core.deliveries.plan import Plan, PlannedEvent, Row, Setting, new_row, plan, skipped
from app.core.outbox import Job, Lane, ring_after_commit
from app.core.runtime import Runtime
from app.core.templating import RenderError, finish_html
from app.core.webhooks import Endpoint
from app.db import Purpose, narrow, system, tenant
from app.errors import InvalidError
from app.ids import new_id
from app.metrics import EVENTS_ACCEPTED, EVENTS_PLANNED
from app.models import Delivery, Event
from providers.contract import Channel, DeliveryStatus

log = structlog.get_logger()

PAGE = 500  # people planned in one transaction
_served: dict[Lane, str] = {}


@dataclass(frozen=True, slots=True)
class EventInput:
    """An event as it was posted. `people` are those named inline, who are saved; they are not in `user_ids` yet."""

    event_type: str
    data: Mapping[str, Any] = field(default_factory=dict)
    user_ids: tuple[str, ...] = ()
    people: tuple[dict[str, Any], ...] = ()
    occurred_at: datetime | None = None


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


def accept_events(
    session: Session,
    runtime: Runtime,
    tenant_id: str,
    inputs: Sequence[EventInput],
    *,
    test: bool = False,
    lane: Lane = Lane.NORMAL,
) -> list[str]:
    """Write events down and have them planned after commit. Returns their ids, in the order of `inputs`."""
    now = runtime.clock.now()
    if people := [person for item in inputs for person in item.people]:
        recipients.upsert(session, runtime.clock, tenant_id, people)
    values = [
        {
            "id": new_id(),
            "tenant_id": tenant_id,
            "event_type": item.event_type,
            "data": item.data,
            "user_ids": list(dict.fromkeys((*item.user_ids, *(person["user_id"] for person in item.people)))),
            "occurred_at": item.occurred_at or now,
            "created_at": now,
            "lane": lane.value,
            "test": test,
            "status": "received",
            "next_attempt_at": now,
        }
        for item in inputs
    ]
    rows.insert(session, Event, values)
    ring_after_commit(session, Job.PLAN, lane)
    EVENTS_ACCEPTED.labels("api").inc(len(values))
    return [str(value["id"]) for value in values]


def send_direct(session: Session, runtime: Runtime, tenant_id: str, message: DirectSend) -> list[str]:
    """Write down one delivery for each address, with its content, and have them sent after commit."""
    now, lane = runtime.clock.now(), Lane.TRANSACTIONAL
    parts = _finished(message)
    category, reason = _judged(session, runtime, tenant_id, message)
    made, contents = [], {}
    for position, address in enumerate(message.to):
        row = new_row(new_id(), tenant_id, message.channel, now, lane.value, test=message.test)
        row |= {"user_id": message.user_id, "event_type": message.event_type, "address": address, "trigger": "direct"}
        row["category"] = category
        if message.channel is Channel.IN_APP:
            row["user_id"] = address
        made.append(skipped(row, reason) if reason else row)
        contents[row["id"]] = _first_only(parts, position)
    rows.insert(session, Delivery, made)
    content.keep(session, tenant_id, contents, now)
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


def plan_events(runtime: Runtime, lane: Lane) -> int:
    """Plan one batch of a lane's received events, of one tenant; send the first of what it makes. Returns how many."""
    now = runtime.clock.now()
    with runtime.db.transaction(system(Purpose.CLAIM)) as session:
        waiting = event_claims.tenants(session, lane, now)
        if not waiting:
            return 0
        tenant_id = next((one for one in waiting if one > _served.get(lane, "")), waiting[0])
        _served[lane] = tenant_id
        narrow(session, tenant(tenant_id))
        claimed = event_claims.claim(session, lane, tenant_id, now)
    if len(waiting) > 1 or len(claimed) == event_claims.BATCH:
        runtime.bell.ring(Job.PLAN, lane)
    if not claimed:
        return 0
    small = [event for event in claimed if len(event.user_ids) - event.cursor <= PAGE]
    for group in ([small] if small else []) + [[event] for event in claimed if event not in small]:
        _plan_safely(runtime, tenant_id, lane, group)
    return len(claimed)


def _plan_safely(runtime: Runtime, tenant_id: str, lane: Lane, group: Sequence[ClaimedEvent]) -> None:
    """Plan a group together; if that fails, each on its own, so that a bad one harms only itself."""
    try:
        _plan_group(runtime, tenant_id, lane, group)
    except Exception as error:
        log.exception("planning_failed", events=[event.id for event in group])
        if len(group) > 1:
            for event in group:
                _plan_safely(runtime, tenant_id, lane, [event])
            return
        with runtime.db.transaction(tenant(tenant_id)) as session:
            failed = event_claims.put_back(session, group[0], runtime.clock.now(), type(error).__name__)
        EVENTS_PLANNED.labels("failed" if failed else "put_back").inc()


def _plan_group(runtime: Runtime, tenant_id: str, lane: Lane, group: Sequence[ClaimedEvent]) -> None:
    left = list(group)
    while left:
        with Room(runtime, lane) as room:
            with runtime.db.transaction(tenant(tenant_id)) as session:
                left, pending = _plan_page(session, runtime, tenant_id, lane, left)
                batches = [] if left else _claim_few(session, runtime, tenant_id, lane, pending, room)
            send.send_batches(runtime, batches, room)


def _plan_page(
    session: Session, runtime: Runtime, tenant_id: str, lane: Lane, group: Sequence[ClaimedEvent]
) -> tuple[list[ClaimedEvent], list[Row]]:
    """Plan the next page of each event. Returns the events that have more pages, and what is to be sent."""
    now = runtime.clock.now()
    pages = [_page(event) for event in group]
    setting = _setting(session, runtime, tenant_id, pages, now)
    made: list[Row] = []
    finished: list[ClaimedEvent] = []
    unfinished: list[ClaimedEvent] = []
    for event, page in zip(group, pages, strict=True):
        matching = rules.matching(setting.rules, event.event_type)
        planned = plan(page, matching, _subscribed(setting, event.event_type), setting)
        made += planned.rows
        cursor = event.cursor + len(page.user_ids)
        after = replace(event, cursor=cursor, notes=_noted(event, planned))
        (finished if cursor >= len(event.user_ids) else unfinished).append(after)
    # Fenced first: a worker that lost its events to another must not write their deliveries.
    owned = event_claims.advance(session, finished, unfinished, now)
    inserted = set(rows.insert(session, Delivery, [row for row in made if row["event_id"] in owned]))
    EVENTS_PLANNED.labels("planned").inc(len(finished))
    pending = [row for row in made if row["id"] in inserted and row["status"] == DeliveryStatus.PENDING]
    if pending:
        ring_after_commit(session, Job.DELIVER, lane)
    return [event for event in unfinished if event.id in owned], pending


def _claim_few(
    session: Session, runtime: Runtime, tenant_id: str, lane: Lane, pending: Sequence[Row], room: Room
) -> list[Batch]:
    """Of few deliveries, those that this thread sends at once; the others are for whoever hears the bell."""
    if len(pending) > BATCH:
        return []
    entered = {channel for channel in {row["channel"] for row in pending} if room.enter(channel)}
    mine = [row["id"] for row in pending if row["channel"] in entered]
    if not mine:
        return []
    if len(mine) == len(pending):
        session.info["rings"].discard((Job.DELIVER, lane))  # nothing is left for others
    lease = max(send.lease_seconds(runtime, channel) for channel in Channel)
    claimed = claims.claim_these(session, tenant_id, mine, runtime.clock.now(), lease)
    return content.load(session, runtime, claimed)


def _subscribed(setting: Setting, event_type: str) -> list[Endpoint]:
    return [e for e in setting.endpoints.values() if e.enabled and webhooks.matches(e.event_types, event_type)]


def _page(event: ClaimedEvent) -> PlannedEvent:
    return PlannedEvent(
        event.id,
        event.tenant_id,
        event.event_type,
        event.data,
        event.occurred_at,
        event.lane,
        event.test,
        event.user_ids[event.cursor : event.cursor + PAGE],
        first_page=event.cursor == 0,
    )


def _setting(
    session: Session, runtime: Runtime, tenant_id: str, pages: Sequence[PlannedEvent], now: datetime
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
