"""What is done to remove a person, a batch at a time, each in a transaction of the caller's.

A step is told where it stopped (`after`, an id) and returns where it is now; None: it is done. Steps may be done again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import case, select, update

from app.core.erased import ERASED
from app.core.erasures.events import clean_event, fence, step_back
from app.core.erasures.redaction import cleaned, holds, is_listed, is_told_by
from app.core.erasures.work import PLAIN, Work
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
    TopicRecipient,
    WebhookAttempt,
)

WINDOW = 1_000  # rows looked at in one transaction
BATCH = 500  # rows changed in one transaction
_UNPLANNED = ("planning", "received")
_UNSENT = ("pending", "sending")


Step = Callable[[Work, str], str | None]


def sources(work: Work, _after: str) -> str | None:
    """What new deliveries are made from: the profile, choices, lists. Nobody's page that has the person is written.

    What waits for an address of theirs counts as their own.
    """
    for model in (Recipient, Preference, TopicRecipient):
        work.delete(model, model.user_id == work.user_id)
    for event in _locked(work, Event.status == "planning"):
        if event.topics:
            fence(event, work.now)
    work.session.flush()
    for event in _locked(work, Event.status == "received", Event.topic_after == work.user_id):
        step_back(work, event)
    if work.words:
        _adopt(work, Delivery.status.in_(_UNSENT), Delivery.address.in_(work.words))
    return None


def unplanned(work: Work, after: str) -> str | None:
    """Events that name the person and are still to be planned, so that nothing more is made of them."""
    found: list[str] = []
    for status in _UNPLANNED:  # one at a time: each has its index
        query = select(Event.id).where(Event.tenant_id == work.tenant_id, Event.status == status, _named(work))
        found += work.session.scalars(query.where(Event.id > after) if after else query)
    batch = sorted(found)[:BATCH]
    if not batch:
        return None
    _clean_events(work, Event.id.in_(batch))
    return batch[-1]


def subscribers(work: Work, _after: str) -> str | None:
    """Events for the person alone of which a webhook is still to tell: its delivery counts as the person's own."""
    for status in _UNSENT:
        nobodys = (Delivery.tenant_id == work.tenant_id, Delivery.user_id.is_(None), Delivery.status == status)
        _clean_events(work, _named(work), Event.id.in_(select(Delivery.event_id).where(*nobodys)))
    return None


def waiting(work: Work, _after: str) -> str | None:
    """The person's deliveries that wait are called off; those on the wire are let through, and not tried again."""
    mine = (Delivery.tenant_id == work.tenant_id, Delivery.user_id == work.user_id)
    pending = select(Delivery.id).where(*mine, Delivery.status == "pending").order_by(Delivery.id).limit(BATCH)
    if found := list(work.session.scalars(pending)):
        _strip(work, found)
        return ""
    # Whoever writes a result just now is not kept waiting: the row is come back to. When it was made has passed by
    # every clock.
    made = Delivery.created_at
    again = (*mine, Delivery.status == "sending", Delivery.expires_at.is_(None) | (Delivery.expires_at > made))
    free = select(Delivery.id).where(*again).with_for_update(skip_locked=True)
    last_try = update(Delivery).where(Delivery.tenant_id == work.tenant_id, Delivery.id.in_(free))
    work.session.execute(last_try.values(expires_at=made), execution_options=PLAIN)
    return "" if work.session.scalars(select(Delivery.id).where(*again).limit(1)).first() else None


def events(work: Work, after: str) -> str | None:
    """Events that named the person: the id goes out; one that named nobody else loses its data."""
    window = _window(work, Event, after)
    if not window:
        return None
    suspected = _named(work) | (Event.dedupe_key == work.user_id) | (Event.topic_after == work.user_id)
    if work.words:
        suspected |= holds((Event.data, Event.dedupe_key), work.words)
    _clean_events(work, suspected, Event.id >= window[0], Event.id <= window[-1])
    return window[-1]


def _named(work: Work) -> Any:
    """A condition: an event may name the person."""
    return is_listed(Event.user_ids, work.user_id)


def _locked(work: Work, *conditions: Any) -> list[Event]:
    """Events of the tenant, in the one order in which all erasures lock them."""
    query = select(Event).where(Event.tenant_id == work.tenant_id, *conditions).order_by(Event.id).with_for_update()
    return list(work.session.scalars(query))


def _clean_events(work: Work, *conditions: Any) -> None:
    """Take the person out of the events that meet the conditions."""
    work.count(Event, sum([clean_event(work, event) for event in _locked(work, *conditions)]))
    work.session.flush()
    # What goes to webhooks of those that named nobody else says the same data: it goes as the person's own.
    if work.alone:
        _adopt(work, Delivery.event_id.in_(work.alone))


def _adopt(work: Work, *conditions: Any) -> None:
    """Have deliveries of nobody go with the person's own; not those that have gone already."""
    left = (Delivery.user_id.is_(None), Delivery.reason.is_distinct_from(ERASED))
    nobodys = update(Delivery).where(Delivery.tenant_id == work.tenant_id, *left, *conditions)
    work.session.execute(nobodys.values(user_id=work.user_id), execution_options=PLAIN)


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


def answers(work: Work, after: str) -> str | None:
    """Stored answers."""
    window = _window(work, IdempotencyKey, after) if work.words else []
    if not window:
        return None
    _clean_texts(work, IdempotencyKey, ("answer",), IdempotencyKey.id.in_(window))
    return window[-1]


def dedupes(work: Work, after: str) -> str | None:
    """Dedupe keys."""
    if work.user_id not in work.words:
        work.delete(EventDedupe, EventDedupe.key == work.user_id)
    window = _window(work, EventDedupe, after) if work.words else []
    if not window:
        return None
    mine = (EventDedupe.tenant_id == work.tenant_id, EventDedupe.id.in_(window), holds((EventDedupe.key,), work.words))
    found = work.session.execute(select(EventDedupe.id, EventDedupe.key).where(*mine)).all()
    work.delete(EventDedupe, EventDedupe.id.in_([row.id for row in found if is_told_by(row.key, work.words)]))
    return window[-1]


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


def own(work: Work, after: str) -> str | None:
    """The person's deliveries and the items of their bell, but for what is on the wire."""
    mine = (Delivery.tenant_id == work.tenant_id, Delivery.user_id == work.user_id, Delivery.status != "sending")
    query = select(Delivery.id).where(*mine).order_by(Delivery.id).limit(BATCH)
    if found := list(work.session.scalars(query.where(Delivery.id > after) if after else query)):
        _strip(work, found)
        return found[-1]
    bell = (InAppNotification.tenant_id == work.tenant_id, InAppNotification.user_id == work.user_id)
    items = list(work.session.scalars(select(InAppNotification.id).where(*bell).limit(WINDOW)))
    work.delete(InAppNotification, InAppNotification.id.in_(items))
    return after if items else None


def _strip(work: Work, ids: Sequence[str]) -> None:
    """Call deliveries off that wait, and take all out of them but what was counted."""
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
    still = (Delivery.tenant_id == work.tenant_id, Delivery.user_id == work.user_id, Delivery.status != "sending")
    stripped = update(Delivery).where(*still, Delivery.id.in_(ids)).values(values).returning(Delivery.id)
    done = list(work.session.scalars(stripped, execution_options=PLAIN))
    work.count(Delivery, len(done))
    work.delete(DeliveryContent, DeliveryContent.id.in_(done))
    work.delete(Attempt, Attempt.delivery_id.in_(done))
    work.delete(WebhookAttempt, WebhookAttempt.delivery_id.in_(done))
    work.delete(InAppNotification, InAppNotification.id.in_(done))


def under_way(work: Work) -> bool:
    """Whether something of the person's is on the wire just now."""
    own = (Delivery.tenant_id == work.tenant_id, Delivery.user_id == work.user_id)
    return work.session.scalars(select(Delivery.id).where(*own).limit(1)).first() is not None


def _window(work: Work, model: Any, after: str) -> list[str]:
    query = select(model.id).where(model.tenant_id == work.tenant_id)
    if after:
        query = query.where(model.id > after)
    return list(work.session.scalars(query.order_by(model.id).limit(WINDOW)))


STEPS: Mapping[str, Step] = {
    # First what must not go out any more, found without looking through all there is
    "sources": sources,
    "unplanned": unplanned,
    "subscribers": subscribers,
    "waiting": waiting,
    # Then the person's own, and wherever else something of theirs may stand
    "own": own,
    "events": events,
    "texts": texts,
    "answers": answers,
    "dedupes": dedupes,
    # And what turned out to be theirs, or came meanwhile
    "rest": own,
}
# These look through all there is, in the order of ids. Answers may be younger than their ids, which are used again.
WALKS = frozenset({"events", "texts", "dedupes"})
