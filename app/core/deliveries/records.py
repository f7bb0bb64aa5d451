"""Reading deliveries: lists with filters, one with its attempts and what was rendered."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.errors import NotFoundError
from app.ids import first_id_of, ids_of_moment, is_id
from app.models import Attempt, Delivery, DeliveryContent
from app.paging import Cursor, Page, page

# A delivery's id has the time of its event: it may be older than the row, by as long as planning took.
_PLANNED_WITHIN = timedelta(days=7)
_CLOCKS_DIFFER = timedelta(minutes=1)
MAX_ATTEMPTS_SHOWN = 200
_LONG_SECONDS = 0.1
_REST, _MOST_REST_SECONDS = 20.0, 60.0  # how many times as long a count is good as it took, and the most
_MOST_COUNTED = 1_000
_counted: OrderedDict[tuple[str, str], tuple[float, Counted]] = OrderedDict()
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Counted:
    """{status: how many}, and when they were counted."""

    counts: Mapping[str, int]
    at: datetime


def search(
    session: Session,
    tenant_id: str,
    cursor: Cursor,
    *,
    event_id: str | None = None,
    user_id: str | None = None,
    channel: str | None = None,
    status: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Page[Delivery]:
    """A tenant's deliveries, newest first. `since` is inclusive, `until` is not."""
    query = select(Delivery).where(Delivery.tenant_id == tenant_id)
    equal = {Delivery.user_id: user_id, Delivery.channel: channel, Delivery.status: status}
    for column, value in equal.items():
        if value is not None:
            query = query.where(column == value)
    if event_id is not None:
        if not is_id(event_id):
            return Page([], None)
        first, end = ids_of_moment(event_id)  # all that an event makes has its time in the id
        query = query.where(Delivery.event_id == event_id.lower(), Delivery.id >= first, Delivery.id < end)
    # The ids bound the time as well, so that the index is not read to its end.
    if since is not None:
        query = query.where(Delivery.created_at >= since, Delivery.id >= first_id_of(since - _PLANNED_WITHIN))
    if until is not None:
        query = query.where(Delivery.created_at < until, Delivery.id < first_id_of(until + _CLOCKS_DIFFER))
    return page(session, query, Delivery.id, cursor)


def get(session: Session, tenant_id: str, delivery_id: str) -> Delivery:
    """One delivery. Raises NotFoundError."""
    found = these(session, tenant_id, [delivery_id]) if is_id(delivery_id) else []
    if not found:
        raise NotFoundError("There is no such delivery.")
    return found[0]


def these(session: Session, tenant_id: str, delivery_ids: Sequence[str]) -> list[Delivery]:
    """These deliveries, in the order of the ids; who is not there is left out."""
    wanted = [delivery_id.lower() for delivery_id in delivery_ids]
    query = select(Delivery).where(Delivery.tenant_id == tenant_id, Delivery.id.in_(wanted))
    found = {item.id: item for item in session.execute(query.execution_options(populate_existing=True)).scalars()}
    return [found[delivery_id] for delivery_id in wanted if delivery_id in found]


def attempts(session: Session, tenant_id: str, delivery_id: str) -> list[Attempt]:
    """The tries of a delivery, the first first."""
    query = select(Attempt).where(Attempt.tenant_id == tenant_id, Attempt.delivery_id == delivery_id)
    return list(session.execute(query.order_by(Attempt.number).limit(MAX_ATTEMPTS_SHOWN)).scalars())


def content(session: Session, tenant_id: str, delivery_id: str) -> dict[str, Any] | None:
    """What was rendered, attachments by name, kind and size in bytes; None: nothing yet, or pruned."""
    query = select(DeliveryContent.parts).where(
        DeliveryContent.tenant_id == tenant_id, DeliveryContent.id == delivery_id
    )
    parts = session.execute(query).scalar_one_or_none()
    if parts is None or not parts.get("attachments"):
        return parts
    return {**parts, "attachments": [_described(item) for item in parts["attachments"]]}


def _described(item: dict[str, Any]) -> dict[str, Any]:
    encoded = item.get("content", "")
    size = len(encoded) * 3 // 4 - encoded[-2:].count("=")
    return {name: value for name, value in item.items() if name != "content"} | {"size": size}


def counts(session: Session, tenant_id: str, event_id: str, now: datetime) -> Counted:
    """How many deliveries of an event stand how. What took long to count is not counted again for a while.

    So looking again and again at an event of a million deliveries costs a twentieth of the time, not all of it.
    """
    with _lock:
        known = _counted.get((tenant_id, event_id))
    if known and known[0] > time.monotonic():
        return known[1]
    began = time.monotonic()
    query = select(Delivery.status, func.count()).where(Delivery.tenant_id == tenant_id, Delivery.event_id == event_id)
    found = Counted({row[0]: row[1] for row in session.execute(query.group_by(Delivery.status))}, now)
    took = time.monotonic() - began
    if took > _LONG_SECONDS:
        with _lock:
            _counted[tenant_id, event_id] = (time.monotonic() + min(_REST * took, _MOST_REST_SECONDS), found)
            while len(_counted) > _MOST_COUNTED:
                _counted.popitem(last=False)
    return found
