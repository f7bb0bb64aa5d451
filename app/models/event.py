"""What happened."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Id, Json, TenantOwned, Utc, created_at, flag

PARTITIONED = {"postgresql_partition_by": "RANGE (id)"}


class Event(TenantOwned):
    """Something happened. `user_ids` are the people named by whoever posted it.

    `cursor` is how many people are planned: those of `user_ids` first, then the lists of `topics`; `topic_index` and
    `topic_after` are which list has its turn, and the last of its people who had theirs. `notes` says which rules were
    passed over, and why: [{ruleId, reason, count}]. `attempt` counts the claims of planning, fenced like a delivery's;
    `failures` those that went wrong one after the other. `traceparent` is the caller's (W3C Trace Context).
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
        Index(  # what went wrong is looked for on its own, and is rare
            "ix_event_logs_suspects",
            "lane",
            "tenant_id",
            "next_attempt_at",
            postgresql_where=text("status = 'received' AND failures > 0"),
            sqlite_where=text("status = 'received' AND failures > 0"),
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
    expires_at: Mapped[datetime | None] = mapped_column(Utc)
    topics: Mapped[list[str]] = mapped_column(Json, default=list, server_default=text("'[]'"))
    topic_index: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    topic_after: Mapped[str] = mapped_column(default="", server_default=text("''"))
    failures: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    dedupe_key: Mapped[str | None] = mapped_column()
    traceparent: Mapped[str | None] = mapped_column()


class EventDedupe(TenantOwned):
    """The event that a dedupe key stands for until `expires_at`, and how often it was posted again."""

    __tablename__ = "event_dedupes"
    __table_args__ = (UniqueConstraint("tenant_id", "key"), Index(None, "expires_at"))

    key: Mapped[str] = mapped_column()
    event_id: Mapped[str] = mapped_column(Id)
    duplicates: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    created_at: Mapped[datetime] = created_at()
    expires_at: Mapped[datetime] = mapped_column(Utc)
    last_duplicate_at: Mapped[datetime | None] = mapped_column(Utc)
