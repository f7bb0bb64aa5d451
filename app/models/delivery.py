"""One message for one person on one channel, each try of it, and what was said."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Double, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Id, Json, TenantOwned, Utc, created_at, flag
from app.models.event import PARTITIONED

_PENDING = text("status = 'pending'")
_SENDING = text("status = 'sending'")


class Delivery(TenantOwned):
    """One content for one recipient on one channel, and how it is going. Also the outbox row.

    `turn` orders the claims: 0 a first attempt, 1 a retry, 2 a suspect (its worker was lost) that is tried alone.
    `losses` counts lost workers. `attempt` fences results. What happened when is kept in the `…_at` columns.
    After `expires_at` it is not sent any more. `traceparent` is the caller's (W3C Trace Context).
    """

    __tablename__ = "notification_logs"
    __table_args__ = (
        Index("ix_notification_logs_tenant", "tenant_id", "id"),
        Index("ix_notification_logs_event", "tenant_id", "event_id"),
        Index("ix_notification_logs_user", "tenant_id", "user_id", "id"),
        Index(
            "ix_notification_logs_due",
            "lane",
            "tenant_id",
            "channel",
            "turn",
            "next_attempt_at",
            postgresql_where=_PENDING,
            sqlite_where=_PENDING,
        ),
        Index("ix_notification_logs_leased", "lease_until", postgresql_where=_SENDING, sqlite_where=_SENDING),
        PARTITIONED,
    )

    event_id: Mapped[str | None] = mapped_column(Id)
    event_type: Mapped[str | None] = mapped_column()
    rule_id: Mapped[str | None] = mapped_column(Id)
    configuration_id: Mapped[str | None] = mapped_column(Id)
    user_id: Mapped[str | None] = mapped_column()
    channel: Mapped[str] = mapped_column()
    category: Mapped[str | None] = mapped_column()
    template: Mapped[str | None] = mapped_column()
    address: Mapped[str] = mapped_column()
    trigger: Mapped[str] = mapped_column()
    lane: Mapped[str] = mapped_column()
    status: Mapped[str] = mapped_column()
    reason: Mapped[str | None] = mapped_column()
    error: Mapped[str | None] = mapped_column()
    turn: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    attempt: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    tries: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    losses: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    next_attempt_at: Mapped[datetime | None] = mapped_column(Utc)
    lease_until: Mapped[datetime | None] = mapped_column(Utc)
    provider: Mapped[str | None] = mapped_column()
    provider_id: Mapped[str | None] = mapped_column()
    test: Mapped[bool] = flag(False)
    created_at: Mapped[datetime] = created_at()
    updated_at: Mapped[datetime] = mapped_column(Utc)
    sent_at: Mapped[datetime | None] = mapped_column(Utc)
    deferred_at: Mapped[datetime | None] = mapped_column(Utc)
    delivered_at: Mapped[datetime | None] = mapped_column(Utc)
    bounced_at: Mapped[datetime | None] = mapped_column(Utc)
    dropped_at: Mapped[datetime | None] = mapped_column(Utc)
    complained_at: Mapped[datetime | None] = mapped_column(Utc)
    opened_at: Mapped[datetime | None] = mapped_column(Utc)
    clicked_at: Mapped[datetime | None] = mapped_column(Utc)
    read_at: Mapped[datetime | None] = mapped_column(Utc)
    expires_at: Mapped[datetime | None] = mapped_column(Utc)
    traceparent: Mapped[str | None] = mapped_column()


class DeliveryContent(TenantOwned):
    """What was rendered, fixed before the first attempt; its id is the delivery's.

    `parts` is {part: text} and, for email, also sender, replyTo, cc, bcc, headers and attachments (base64).
    """

    __tablename__ = "delivery_contents"

    parts: Mapped[dict[str, Any]] = mapped_column(Json)
    created_at: Mapped[datetime] = created_at()


class Attempt(TenantOwned):
    """One try of a delivery with one provider, written with the claim and completed with the result.

    `outcome` is null while it runs, then accepted, retryable, permanent, lost, returned (given back unsent) or
    skipped (too late to be sent).
    """

    __tablename__ = "delivery_attempts"
    __table_args__ = (Index("ix_delivery_attempts_delivery", "tenant_id", "delivery_id", "number"), PARTITIONED)

    delivery_id: Mapped[str] = mapped_column(Id)
    number: Mapped[int] = mapped_column()
    provider: Mapped[str | None] = mapped_column()
    started_at: Mapped[datetime] = mapped_column(Utc)
    finished_at: Mapped[datetime | None] = mapped_column(Utc)
    duration_ms: Mapped[float | None] = mapped_column(Double)
    outcome: Mapped[str | None] = mapped_column()
    code: Mapped[str | None] = mapped_column()
    error: Mapped[str | None] = mapped_column()
    detail: Mapped[dict[str, Any] | None] = mapped_column(Json)
    next_attempt_at: Mapped[datetime | None] = mapped_column(Utc)
