"""Rows of earlier days: an event with one delivery, its words, its attempt and the log of that."""

from __future__ import annotations

import itertools
from datetime import datetime
from typing import Any

from app import rows
from app.core.runtime import Runtime
from app.ids import derived_id, first_id_of
from app.models import Attempt, Delivery, DeliveryContent, Event, InAppNotification, WebhookAttempt
from app.tenancy import tenant

_numbers = itertools.count()


def write_day(
    runtime: Runtime,
    tenant_id: str,
    at: datetime,
    *,
    event_status: str = "planned",
    delivery_status: str = "delivered",
    outcome: str | None = "accepted",
    user_id: str = "ada",
    **delivery: Any,
) -> str:
    """Write what one event of a moment left behind; returns its id. Its delivery has the same."""
    made = derived_id(first_id_of(at), str(next(_numbers)))
    own = {"id": made, "tenant_id": tenant_id}
    about = {"delivery_id": made, "number": 1, "started_at": at}
    with runtime.db.transaction(tenant(tenant_id)) as session:
        event = {"event_type": "order.created", "data": {}, "user_ids": [user_id], "occurred_at": at, "lane": "normal"}
        rows.insert(session, Event, [own | event | {"created_at": at, "status": event_status, "next_attempt_at": at}])
        row = {"event_id": made, "user_id": user_id, "channel": "in_app", "address": user_id, "trigger": "event"}
        row |= {"lane": "normal", "status": delivery_status, "created_at": at, "updated_at": at, "attempt": 1}
        row |= {"next_attempt_at": at} if delivery_status == "pending" else {}
        rows.insert(session, Delivery, [own | row | delivery])
        rows.insert(session, DeliveryContent, [own | {"parts": {"text": "words"}, "created_at": at}])
        rows.insert(session, Attempt, [own | about | {"outcome": outcome}])
        log = {"trigger": "event", "url": "http://127.0.0.1/"}
        rows.insert(session, WebhookAttempt, [own | about | log])
    return made


def write_notification(
    runtime: Runtime, tenant_id: str, at: datetime, read_at: datetime | None = None, user_id: str = "ada"
) -> str:
    """One item of a person's bell; returns its id."""
    made = derived_id(first_id_of(at), str(next(_numbers)))
    item = {"id": made, "tenant_id": tenant_id, "user_id": user_id, "type": "info", "title": "t", "message": "m"}
    with runtime.db.transaction(tenant(tenant_id)) as session:
        rows.insert(session, InAppNotification, [item | {"created_at": at, "read_at": read_at}])
    return made
