"""The people who are told."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Json, TenantOwned, Utc, created_at


class Recipient(TenantOwned):
    """A person. `user_id` is the caller's own name for them; `attributes` are free."""

    __tablename__ = "recipients"
    __table_args__ = (UniqueConstraint("tenant_id", "user_id"),)

    user_id: Mapped[str] = mapped_column()
    name: Mapped[str | None] = mapped_column()
    email: Mapped[str | None] = mapped_column()
    phone: Mapped[str | None] = mapped_column()
    locale: Mapped[str | None] = mapped_column()
    time_zone: Mapped[str | None] = mapped_column()
    attributes: Mapped[dict[str, Any]] = mapped_column(Json, default=dict)
    created_at: Mapped[datetime] = created_at()
    updated_at: Mapped[datetime] = mapped_column(Utc)
