"""Everything about a person as one JSON document, read page by page while it is written."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Select, inspect, select
from sqlalchemy.orm import Session

from app import rows
from app.core.deliveries import records
from app.core.erasures.redaction import is_listed
from app.core.runtime import Runtime
from app.models import (
    Attempt,
    Base,
    Delivery,
    Event,
    InAppNotification,
    Preference,
    Recipient,
    Topic,
    TopicRecipient,
    WebhookAttempt,
)
from app.tenancy import tenant

PAGE = 100  # rows of one transaction
WINDOW = 2_000  # events looked at in one transaction
# What the work keeps for itself and what belongs to others.
_LEFT_OUT = frozenset({"tenant_id", "user_id", "delivery_id", "turn", "tries", "losses", "lease_until", "traceparent"})

Item = dict[str, Any]
Found = tuple[list[Item], str | None]  # some items, and the id to go on after (None: that was all)
Reader = Callable[[Session, str, str, str], Found]


def knows(runtime: Runtime, tenant_id: str, user_id: str) -> bool:
    """Whether there is anything about a person. All events are looked through for one of whom there is nothing else."""
    models: tuple[Any, ...] = (Recipient, Delivery, InAppNotification, Preference, TopicRecipient)
    with runtime.db.transaction(tenant(tenant_id), read_only=True) as session:
        if any(session.scalars(_own(model, tenant_id, user_id, "").limit(1)).first() for model in models):
            return True
    return any(_pages(runtime, tenant_id, user_id, _events))


def export(runtime: Runtime, tenant_id: str, user_id: str) -> Iterator[str]:
    """The document in pieces: {userId, exportedAt, profile, preferences, topics, notifications, deliveries, events}.

    All but the first two are lists. Each page is read in a transaction of its own: what is written meanwhile may or may
    not be in it.
    """
    yield rows.dumps({"userId": user_id, "exportedAt": runtime.clock.now()})[:-1]
    for name, read in _PARTS.items():
        yield f',"{name}":'
        yield from _written(_pages(runtime, tenant_id, user_id, read))
    yield "}\n"


def _pages(runtime: Runtime, tenant_id: str, user_id: str, read: Reader) -> Iterator[list[Item]]:
    after: str | None = ""
    while after is not None:
        with runtime.db.transaction(tenant(tenant_id), read_only=True) as session:
            items, after = read(session, tenant_id, user_id, after)
        yield items


def _written(pages: Iterable[Sequence[Item]]) -> Iterator[str]:
    before = "["
    for page in pages:
        for item in page:
            yield before + rows.dumps(item)
            before = ","
    yield "]" if before == "," else "[]"


def _own(model: Any, tenant_id: str, user_id: str, after: str) -> Select[Any]:
    """A page of a person's rows of one kind."""
    query = select(model).where(model.tenant_id == tenant_id, model.user_id == user_id)
    query = query.where(model.id > after) if after else query
    return query.order_by(model.id).limit(PAGE)


def _reader(model: Any) -> Reader:
    def read(session: Session, tenant_id: str, user_id: str, after: str) -> Found:
        found = list(session.scalars(_own(model, tenant_id, user_id, after)))
        return [_shown(record) for record in found], _next(found)

    return read


def _topics(session: Session, tenant_id: str, user_id: str, after: str) -> Found:
    found = list(session.scalars(_own(TopicRecipient, tenant_id, user_id, after)))
    lists = select(Topic.id, Topic.name).where(
        Topic.tenant_id == tenant_id, Topic.id.in_([record.topic_id for record in found])
    )
    names: Mapping[str, str] = {row.id: row.name for row in session.execute(lists)}
    return [{"name": names.get(one.topic_id), "createdAt": one.created_at} for one in found], _next(found)


def _deliveries(session: Session, tenant_id: str, user_id: str, after: str) -> Found:
    found = list(session.scalars(_own(Delivery, tenant_id, user_id, after)))
    ids = [delivery.id for delivery in found]
    attempts = _of_deliveries(session, Attempt, tenant_id, ids)
    logs = _of_deliveries(session, WebhookAttempt, tenant_id, ids)
    items = []
    for delivery in found:
        more = {"attempts": attempts[delivery.id], "webhookLogs": logs[delivery.id]}
        # One at a time: attachments may be large, and only their names are shown.
        items.append(_shown(delivery) | more | {"content": records.content(session, tenant_id, delivery.id)})
    return items, _next(found)


def _of_deliveries(session: Session, model: Any, tenant_id: str, ids: Sequence[str]) -> Mapping[str, list[Item]]:
    query = select(model).where(model.tenant_id == tenant_id, model.delivery_id.in_(ids)).order_by(model.id)
    found: defaultdict[str, list[Item]] = defaultdict(list)
    for record in session.scalars(query):
        found[record.delivery_id].append(_shown(record))
    return found


def _events(session: Session, tenant_id: str, user_id: str, after: str) -> Found:
    """Those that named the person. Nothing leads from a person to them: a window of all is looked through."""
    mine = select(Event.id).where(Event.tenant_id == tenant_id)
    mine = mine.where(Event.id > after) if after else mine
    window = list(session.scalars(mine.order_by(Event.id).limit(WINDOW)))
    if not window:
        return [], None
    inside = (Event.tenant_id == tenant_id, Event.id >= window[0], Event.id <= window[-1])
    named = select(Event).where(*inside, is_listed(Event.user_ids, user_id)).order_by(Event.id)
    return [_event(event) for event in session.scalars(named) if user_id in event.user_ids], window[-1]


def _event(event: Event) -> Item:
    """Without the ids of the others, but how many there were."""
    return {
        "id": event.id,
        "eventType": event.event_type,
        "data": event.data,
        "occurredAt": event.occurred_at,
        "createdAt": event.created_at,
        "namedOthers": len(event.user_ids) - 1,
    }


def _shown(record: Base) -> Item:
    columns: Any = inspect(type(record)).column_attrs
    return {_camel(one.key): getattr(record, one.key) for one in columns if one.key not in _LEFT_OUT}


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


def _next(found: Sequence[Any]) -> str | None:
    return found[-1].id if len(found) == PAGE else None


_PARTS: Mapping[str, Reader] = {
    "profile": _reader(Recipient),
    "preferences": _reader(Preference),
    "topics": _topics,
    "notifications": _reader(InAppNotification),
    "deliveries": _deliveries,
    "events": _events,
}
