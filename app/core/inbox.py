"""What people see in the bell: in-app notifications, added by deliveries, listed and marked by their owner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import delete as sql_delete
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app import rows
from app.clock import Clock
from app.core.erased import kept_out
from app.db import Transaction
from app.ids import is_id
from app.models import Delivery, InAppNotification
from app.paging import Cursor, Page, page
from providers.contract import OutboundMessage

TYPES = ("info", "success", "warning", "error")


def add(session: Transaction, tenant_id: str, items: Sequence[Mapping[str, Any]], *, late: bool = False) -> None:
    """Add notifications; those that are there already stay as they are. `late`: their person may be gone by now.

    Each item: id (its delivery's), user_id, event_id, event_type, type, title, message, action_url, created_at.
    """
    condition = kept_out(session, tenant_id, "id", [item["id"] for item in items]) if late else rows.ALWAYS
    rows.put(session, InAppNotification, [{"tenant_id": tenant_id, **item} for item in items], condition)


def item(message: OutboundMessage) -> dict[str, Any]:
    """An in-app message as `add` takes it."""
    about = message.metadata
    return {
        "id": message.delivery_id,
        "user_id": message.to,
        "event_id": about.get("eventId"),
        "event_type": about.get("eventType"),
        "type": about.get("type") or "info",
        "title": message.subject,
        "message": message.text,
        "action_url": about.get("actionUrl") or None,
        "created_at": message.created_at,
    }


def search(
    session: Session,
    tenant_id: str,
    user_id: str,
    cursor: Cursor,
    *,
    unread: bool | None = None,
    read: bool | None = None,
    kind: str | None = None,
    since: datetime | None = None,
) -> Page[InAppNotification]:
    """A person's notifications, newest first. `unread`, `read`: those that are, or with false those that are not."""
    query = select(InAppNotification).where(*_own(tenant_id, user_id))
    wanted = {not unread if unread is not None else None, read} - {None}
    if len(wanted) > 1:
        return Page([], None)
    for only_read in wanted:
        is_read = InAppNotification.read_at.is_not(None)
        query = query.where(is_read if only_read else ~is_read)
    if kind is not None:
        query = query.where(InAppNotification.type == kind)
    if since is not None:
        query = query.where(InAppNotification.created_at >= since)
    return page(session, query, InAppNotification.id, cursor)


def unread_count(session: Session, tenant_id: str, user_id: str) -> int:
    """How many a person has not read."""
    query = select(func.count()).select_from(InAppNotification).where(*_own(tenant_id, user_id))
    return session.execute(query.where(InAppNotification.read_at.is_(None))).scalar_one()


def mark_as_read(session: Session, clock: Clock, tenant_id: str, user_id: str, ids: Sequence[str] | None) -> int:
    """Mark these notifications, or all with None. Returns how many were unread; foreign and unknown ids are passed by.

    Their deliveries get the time as well.
    """
    now = clock.now()
    conditions = [*_own(tenant_id, user_id), InAppNotification.read_at.is_(None)]
    if ids is not None:
        conditions.append(InAppNotification.id.in_(_clean(ids)))
    statement = update(InAppNotification).where(*conditions).values(read_at=now).returning(InAppNotification.id)
    marked = list(session.execute(statement.execution_options(synchronize_session=False)).scalars())
    for start in range(0, len(marked), 1000):
        own = (Delivery.tenant_id == tenant_id, Delivery.user_id == user_id, Delivery.read_at.is_(None))
        chunk = Delivery.id.in_(marked[start : start + 1000])
        seen = update(Delivery).where(*own, chunk).values(read_at=now)
        session.execute(seen.execution_options(synchronize_session=False))
    return len(marked)


def delete(session: Session, tenant_id: str, user_id: str, ids: Sequence[str]) -> int:
    """Take these notifications out of a person's list; returns how many there were. Their deliveries stay on record."""
    statement = sql_delete(InAppNotification).where(*_own(tenant_id, user_id), InAppNotification.id.in_(_clean(ids)))
    return len(session.execute(statement.returning(InAppNotification.id)).all())


def _own(tenant_id: str, user_id: str) -> tuple[Any, ...]:
    return (InAppNotification.tenant_id == tenant_id, InAppNotification.user_id == user_id)


def _clean(ids: Sequence[str]) -> list[str]:
    return [found.lower() for found in ids if is_id(found)]
