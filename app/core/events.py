"""Reading events: lists with filters, and one whole. `pipeline.accept_events` writes them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import inspect, select
from sqlalchemy.orm import Session, defer

from app.core import topics
from app.core.deliveries.records import Counted
from app.errors import NotFoundError
from app.ids import first_id_of, is_id
from app.models import Event
from app.paging import Cursor, Page, page

STATUSES = ("received", "planning", "planned", "failed")
MAX_DATA_BYTES = 262_144
_STANDING = {
    "sent": ("sent", "delivered", "complained"),
    "failed": ("failed", "bounced"),
    "skipped": ("skipped", "canceled"),
    "pending": ("pending", "sending"),
}
_CLOCKS_DIFFER = timedelta(minutes=1)  # an id is made a moment after the time of its row was taken


def search(
    session: Session,
    tenant_id: str,
    cursor: Cursor,
    *,
    event_type: str | None = None,
    status: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Page[Event]:
    """A tenant's events, newest first, without their data and people. `since` is inclusive, `until` is not."""
    heavy = (Event.data, Event.user_ids, Event.topics, Event.notes)
    query = select(Event).where(Event.tenant_id == tenant_id).options(*(defer(column) for column in heavy))
    if event_type is not None:
        query = query.where(Event.event_type == event_type)
    if status is not None:
        query = query.where(Event.status == status)
    if since is not None:
        query = query.where(Event.created_at >= since, Event.id >= first_id_of(since - _CLOCKS_DIFFER))
    if until is not None:
        query = query.where(Event.created_at < until, Event.id < first_id_of(until + _CLOCKS_DIFFER))
    return page(session, query, Event.id, cursor)


def get(session: Session, tenant_id: str, event_id: str) -> Event:
    """One event. Raises NotFoundError."""
    found = None
    if is_id(event_id):
        query = select(Event).where(Event.tenant_id == tenant_id, Event.id == event_id.lower())
        found = session.execute(query).scalar_one_or_none()
    if found is None:
        raise NotFoundError("There is no such event.")
    return found


def shown(event: Event) -> dict[str, Any]:
    """An event's columns: {name: value}."""
    columns: Any = inspect(Event).column_attrs
    return {column.key: getattr(event, column.key) for column in columns}


def progress(session: Session, event: Event, counted: Counted) -> dict[str, Any]:
    """How far an event has come, of its people and its deliveries.

    `people` counts who is named and the entries of its topics' lists: who is on two counts twice.
    """
    finished = event.status == "planned"
    people = event.cursor if finished else len(event.user_ids) + topics.size(session, event.tenant_id, event.topics)
    standing = {word: sum(counted.counts.get(status, 0) for status in among) for word, among in _STANDING.items()}
    made = {"planned": sum(counted.counts.values()), "counted_at": counted.at}
    return {"finished": finished, "people": people, "people_planned": event.cursor} | made | standing
