"""Subscribers, and what their servers answered."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Double, Index
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Id, Json, TenantOwned, Utc, created_at, flag
from app.models.event import PARTITIONED


class WebhookConfiguration(TenantOwned):
    """A subscriber's URL and the event types it wants. `secret` is encrypted at rest."""

    __tablename__ = "webhook_configurations"
    __table_args__ = (Index(None, "tenant_id", "id"),)

    url: Mapped[str] = mapped_column()
    event_types: Mapped[list[str]] = mapped_column(Json)
    description: Mapped[str] = mapped_column(default="", server_default="")
    secret: Mapped[str] = mapped_column()
    enabled: Mapped[bool] = flag(True)
    disabled_reason: Mapped[str | None] = mapped_column()
    disabled_at: Mapped[datetime | None] = mapped_column(Utc)
    created_at: Mapped[datetime] = created_at()
    updated_at: Mapped[datetime] = mapped_column(Utc)


class WebhookAttempt(TenantOwned):
    """The HTTP details of one attempt; its id is the attempt's."""

    __tablename__ = "webhook_delivery_logs"
    __table_args__ = (
        Index("ix_webhook_delivery_logs_configuration", "tenant_id", "configuration_id", "id"),
        Index("ix_webhook_delivery_logs_delivery", "tenant_id", "delivery_id"),
        PARTITIONED,
    )

    delivery_id: Mapped[str] = mapped_column(Id)
    configuration_id: Mapped[str | None] = mapped_column(Id)
    event_id: Mapped[str | None] = mapped_column(Id)
    number: Mapped[int] = mapped_column()
    trigger: Mapped[str] = mapped_column()
    url: Mapped[str] = mapped_column()
    request_headers: Mapped[dict[str, Any] | None] = mapped_column(Json)
    status_code: Mapped[int | None] = mapped_column()
    error: Mapped[str | None] = mapped_column()
    response_headers: Mapped[dict[str, Any] | None] = mapped_column(Json)
    response_body: Mapped[str | None] = mapped_column()
    peer: Mapped[str | None] = mapped_column()
    times: Mapped[dict[str, Any] | None] = mapped_column(Json)
    duration_ms: Mapped[float | None] = mapped_column(Double)
    started_at: Mapped[datetime] = mapped_column(Utc)
