"""Deliveries before they are written: rows as the table has them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from app.core.deliveries.claims import FIRST
from providers.contract import Channel, DeliveryStatus

Row = dict[str, Any]

IS_PAST = "lies in the past"  # what is said of an `expiresAt`


def new_row(delivery_id: str, tenant_id: str, channel: Channel, now: datetime, lane: str, *, test: bool = False) -> Row:
    """A pending delivery with nothing about its reason yet; all keys are there, as bulk inserts want them."""
    return {
        "id": delivery_id,
        "tenant_id": tenant_id,
        "event_id": None,
        "event_type": None,
        "rule_id": None,
        "configuration_id": None,
        "user_id": None,
        "channel": channel.value,
        "category": None,
        "template": None,
        "address": "",
        "trigger": "event",
        "lane": lane,
        "status": DeliveryStatus.PENDING.value,
        "reason": None,
        "turn": FIRST,
        "attempt": 0,
        "tries": 0,
        "losses": 0,
        "next_attempt_at": now,
        "test": test,
        "created_at": now,
        "updated_at": now,
        "expires_at": None,
        "traceparent": None,
    }


def is_over(expires_at: datetime | None, now: datetime) -> bool:
    """Whether what may be sent until `expires_at` is too late now. None: it never is."""
    return expires_at is not None and expires_at <= now


def skipped(row: Row, reason: str) -> Row:
    """The same row, decided against for `reason`."""
    return row | {"status": DeliveryStatus.SKIPPED.value, "reason": reason, "next_attempt_at": None}
