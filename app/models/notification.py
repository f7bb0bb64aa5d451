"""What a person sees in the bell."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Id, TenantOwned, Utc, created_at


class InAppNotification(TenantOwned):
    """One item of a person's list. Its id is its delivery's."""

    __tablename__ = "notifications"
    __table_args__ = (
        Index(None, "tenant_id", "user_id", "id"),
        Index(None, "tenant_id", "user_id", "read_at"),
    )

    user_id: Mapped[str] = mapped_column()
    event_id: Mapped[str | None] = mapped_column(Id)
    event_type: Mapped[str | None] = mapped_column()
    type: Mapped[str] = mapped_column()
    title: Mapped[str] = mapped_column()
    message: Mapped[str] = mapped_column()
    action_url: Mapped[str | None] = mapped_column()
    created_at: Mapped[datetime] = created_at()
    read_at: Mapped[datetime | None] = mapped_column(Utc)
