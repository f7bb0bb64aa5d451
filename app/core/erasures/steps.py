"""What is done to remove a person, a batch at a time, each in a transaction of the caller's.

A step is told where it stopped (`after`, an id) and returns where it is now; None: it is done. Steps may be done again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import case, delete, select, update
from sqlalchemy.orm import Session

from app.core.erased import ERASED
from app.core.erasures.redaction import cleaned, holds, is_told_by
from app.models import (
    Attempt,
    Delivery,
    DeliveryContent,
    Event,
    EventDedupe,
    IdempotencyKey,
    InAppNotification,
    Preference,
    Recipient,
    TenantOwned,
    Topic,
    TopicRecipient,
    WebhookAttempt,
)

WINDOW = 1_000  # rows looked at in one transaction
BATCH = 500  # deliveries changed in one transaction
_PLAIN = {"synchronize_session": False}


@dataclass(slots=True)
class Work:
    """Whose removal it is. `counts`: {table: rows removed or changed}; `alone`: events that named nobody else."""

    session: Session
    tenant_id: str
    user_id: str
    words: Sequence[str]
    now: datetime
    counts: Counter[str] = field(default_factory=Counter)
    alone: list[str] = field(default_factory=list)

    def count(self, model: type[TenantOwned], number: int) -> None:
        """So many rows more."""
        if number:
            self.counts[model.__tablename__] += number

    def delete(self, model: type[TenantOwned], *conditions: Any) -> None:
        """Remove the tenant's rows that meet the conditions."""
        statement = delete(model).where(model.tenant_id == self.tenant_id, *conditions)
        self.count(model, self.session.execute(statement, execution_options=_PLAIN).rowcount)  # type: ignore[attr-defined]


Step = Callable[[Work, str], str | None]


def sources(work: Work, _after: str) -> str | None:
    """What new deliveries are made from: the profile, choices, lists. Nobody's page that has the person is written."""
    for model in (Recipient, Preference, TopicRecipient):
        work.delete(model, model.user_id == work.user_id)
    planning = select(Event).where(Event.tenant_id == work.tenant_id, Event.status == "planning").with_for_update()
    for event in list(work.session.scalars(planning)):
        if event.topics:
            _fence(event, work.now)
    work.session.flush()
    here = (Event.status.in_(("planning", "received")), Event.topic_after == work.user_id)
    placed = select(Event).where(Event.tenant_id == work.tenant_id, *here).with_for_update()
    for event in list(work.session.scalars(placed)):
        _step_back(work, event)
    return None


def _fence(event: Event, now: datetime) -> None:
    """Whoever is planning this event has read what is no longer so: let nobody's page but a new one be written."""
    event.attempt += 1
    event.status, event.lease_until, event.next_attempt_at = "received", None, now


def _step_back(work: Work, event: Event) -> None:
    """Keep the place in a list that this person was the last to have, by whoever stood before them.

    The person is on the list no more, so that planning goes on with the same people as it would have.
    """
    before = (
        select(TopicRecipient.user_id)
        .join(Topic, (Topic.id == TopicRecipient.topic_id) & (Topic.tenant_id == work.tenant_id))
        .where(TopicRecipient.tenant_id == work.tenant_id, TopicRecipient.user_id < work.user_id)
        .where(Topic.name.in_(event.topics[event.topic_index :][:1]))
        .order_by(TopicRecipient.user_id.desc())
        .limit(1)
    )
    event.topic_after = work.session.scalars(before).first() or ""


def events(work: Work, after: str) -> str | None:
    """Events that named the person: the id goes out; one that named nobody else loses its data."""
    window = _window(work, Event, after)
    if not window:
        return None
    suspected = holds((Event.user_ids,), [f'"{work.user_id}"'])
    suspected |= (Event.dedupe_key == work.user_id) | (Event.topic_after == work.user_id)
    if work.words:
        suspected |= holds((Event.data, Event.dedupe_key), work.words)
    mine = (Event.tenant_id == work.tenant_id, Event.id >= window[0], Event.id <= window[-1])
    for event in list(work.session.scalars(select(Event).where(*mine, suspected).with_for_update())):
        work.count(Event, _clean_event(work, event))
    work.session.flush()
    # What went to webhooks of these said the same data: it goes as the person's own deliveries do.
    _adopt(work, Delivery.event_id.in_(work.alone))
    return window[-1]


def _adopt(work: Work, *conditions: Any) -> None:
    """Have deliveries of nobody go with the person's own."""
    nobodys = update(Delivery).where(Delivery.tenant_id == work.tenant_id, Delivery.user_id.is_(None), *conditions)
    work.session.execute(nobodys.values(user_id=work.user_id), execution_options=_PLAIN)


def _clean_event(work: Work, event: Event) -> bool:
    """Take the person out of an event. Returns whether it held anything of theirs."""
    before = (event.user_ids, event.data, event.dedupe_key)
    if work.user_id in event.user_ids:
        _leave_out(event, work)
    else:
        event.data = cleaned(event.data, work.words)
    if event.topic_after == work.user_id:
        _step_back(work, event)
    event.dedupe_key = None if event.dedupe_key == work.user_id else cleaned(event.dedupe_key, work.words)
    return before != (event.user_ids, event.data, event.dedupe_key)


def _leave_out(event: Event, work: Work) -> None:
    others = [user_id for user_id in event.user_ids if user_id != work.user_id]
    if event.user_ids.index(work.user_id) < event.cursor:
        event.cursor -= 1
    event.user_ids = others
    if event.status == "planning":
        _fence(event, work.now)
    if others or event.topics:
        event.data = cleaned(event.data, work.words)
        return
    event.data = {}
    if event.status == "received":
        event.status, event.planned_at = "planned", work.now
        event.notes = [*event.notes, {"ruleId": None, "reason": "the person whom it named was erased", "count": 1}]
    work.alone.append(event.id)


def texts(work: Work, after: str) -> str | None:
    """Deliveries to the person's addresses without their name, and others' texts in which they stand."""
    window = _window(work, Delivery, after) if work.words else []
    if not window:
        return None
    _adopt(work, Delivery.id.in_(window), Delivery.address.in_(work.words))
    for model, key, names in (
        (Delivery, "id", ("error", "reason")),
        (DeliveryContent, "id", ("parts",)),
        (InAppNotification, "id", ("title", "message", "action_url")),
        (Attempt, "delivery_id", ("error", "detail")),
        (WebhookAttempt, "delivery_id", ("url", "request_headers", "response_headers", "response_body")),
    ):
        _clean_texts(work, model, names, getattr(model, key).in_(window))
    return window[-1]


def answers(work: Work, _after: str) -> str | None:
    """Stored answers and dedupe keys."""
    if work.words:
        _clean_texts(work, IdempotencyKey, ("answer",))
        mine = (EventDedupe.tenant_id == work.tenant_id, holds((EventDedupe.key,), work.words))
        found = work.session.execute(select(EventDedupe.id, EventDedupe.key).where(*mine)).all()
        told = [row.id for row in found if is_told_by(row.key, work.words)]
        work.delete(EventDedupe, EventDedupe.id.in_(told))
    if work.user_id not in work.words:
        work.delete(EventDedupe, EventDedupe.key == work.user_id)
    return None


def _clean_texts(work: Work, model: Any, names: Sequence[str], *conditions: Any) -> None:
    columns = [getattr(model, name) for name in names]
    query = select(model).where(model.tenant_id == work.tenant_id, *conditions, holds(columns, work.words))
    changed = 0
    for row in list(work.session.scalars(query)):
        before = {name: getattr(row, name) for name in names}
        after = {name: cleaned(value, work.words) for name, value in before.items()}
        if after != before:
            changed += 1
            for name, value in after.items():
                setattr(row, name, value)
    work.session.flush()
    work.count(model, changed)


def notifications(work: Work, _after: str) -> str | None:
    """The items of the person's bell."""
    own = (InAppNotification.tenant_id == work.tenant_id, InAppNotification.user_id == work.user_id)
    found = list(work.session.scalars(select(InAppNotification.id).where(*own).limit(WINDOW)))
    if not found:
        return None
    work.delete(InAppNotification, InAppNotification.id.in_(found))
    return found[-1]


def deliveries(work: Work, after: str) -> str | None:
    """The person's deliveries: called off if they wait, and stripped of all but what was counted.

    What is on the wire is left until it is through.
    """
    own = (Delivery.tenant_id == work.tenant_id, Delivery.user_id == work.user_id, Delivery.status != "sending")
    query = select(Delivery.id).where(*own).order_by(Delivery.id).limit(BATCH)
    found = list(work.session.scalars(query.where(Delivery.id > after) if after else query))
    if not found:
        return None
    values = {
        "user_id": None,
        "address": case((Delivery.configuration_id.is_(None), ""), else_=Delivery.address),
        "status": case((Delivery.status == "pending", "canceled"), else_=Delivery.status),
        "reason": ERASED,
        "error": None,
        "provider_id": None,
        "next_attempt_at": None,
        "attempt": Delivery.attempt + 1,  # fenced: no late result is written
        "updated_at": work.now,
    }
    stripped = update(Delivery).where(*own, Delivery.id.in_(found)).values(values).returning(Delivery.id)
    done = list(work.session.scalars(stripped, execution_options=_PLAIN))
    work.count(Delivery, len(done))
    work.delete(DeliveryContent, DeliveryContent.id.in_(done))
    work.delete(Attempt, Attempt.delivery_id.in_(done))
    work.delete(WebhookAttempt, WebhookAttempt.delivery_id.in_(done))
    work.delete(InAppNotification, InAppNotification.id.in_(done))
    return found[-1]


def under_way(work: Work) -> bool:
    """Whether something of the person's is on the wire just now."""
    own = (Delivery.tenant_id == work.tenant_id, Delivery.user_id == work.user_id)
    return work.session.scalars(select(Delivery.id).where(*own).limit(1)).first() is not None


def _window(work: Work, model: Any, after: str) -> list[str]:
    query = select(model.id).where(model.tenant_id == work.tenant_id)
    if after:
        query = query.where(model.id > after)
    return list(work.session.scalars(query.order_by(model.id).limit(WINDOW)))


STEPS: tuple[Step, ...] = (sources, events, texts, answers, notifications, deliveries)
WALKS = (1, 2)  # the steps that look through all there is, in the order of ids
