"""Who is told of what."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Json, TenantOwned, Utc, created_at, flag


class Rule(TenantOwned):
    """When an event looks like this, tell its people with these actions.

    `event_type` is exact, `order.*` or `*`. `actions` is [{channel, template, condition?, to?, configurationId?}].
    `priority` orders the rules of a tenant; `lane`, if set, is where its deliveries wait, else the event's.
    """

    __tablename__ = "notification_rules"
    __table_args__ = (Index(None, "tenant_id", "enabled"),)

    name: Mapped[str] = mapped_column()
    event_type: Mapped[str] = mapped_column()
    condition: Mapped[str | None] = mapped_column()
    priority: Mapped[int] = mapped_column(default=0)
    enabled: Mapped[bool] = flag(True)
    category: Mapped[str] = mapped_column()
    critical: Mapped[bool] = flag(False)
    actions: Mapped[list[dict[str, Any]]] = mapped_column(Json)
    created_at: Mapped[datetime] = created_at()
    updated_at: Mapped[datetime] = mapped_column(Utc)
    lane: Mapped[str | None] = mapped_column()
