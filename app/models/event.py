"""What happened."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Index, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Json, TenantOwned, Utc, created_at, flag

PARTITIONED = {"postgresql_partition_by": "RANGE (id)"}


class Event(TenantOwned):
    """Something happened. `user_ids` are the people named by whoever posted it.

    `cursor` is how many of them are planned. `notes` says which rules were passed over, and why:
    [{ruleId, reason, count}]. `attempt` counts the claims of planning, fenced like a delivery's.
    """

    __tablename__ = "event_logs"
    __table_args__ = (
        Index("ix_event_logs_tenant", "tenant_id", "id"),
        Index(
            "ix_event_logs_due",
            "lane",
            "tenant_id",
            "next_attempt_at",
            postgresql_where=text("status = 'received'"),
            sqlite_where=text("status = 'received'"),
        ),
        Index(
            "ix_event_logs_leased",
            "lease_until",
            postgresql_where=text("status = 'planning'"),
            sqlite_where=text("status = 'planning'"),
        ),
        PARTITIONED,
    )

    event_type: Mapped[str] = mapped_column()
    data: Mapped[dict[str, Any]] = mapped_column(Json)
    user_ids: Mapped[list[str]] = mapped_column(Json)
    occurred_at: Mapped[datetime] = mapped_column(Utc)
    created_at: Mapped[datetime] = created_at()
    lane: Mapped[str] = mapped_column()
    test: Mapped[bool] = flag(False)
    status: Mapped[str] = mapped_column()
    cursor: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    attempt: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    next_attempt_at: Mapped[datetime] = mapped_column(Utc)
    lease_until: Mapped[datetime | None] = mapped_column(Utc)
    planned_at: Mapped[datetime | None] = mapped_column(Utc)
    notes: Mapped[list[Any]] = mapped_column(Json, default=list, server_default=text("'[]'"))
    error: Mapped[str | None] = mapped_column()
