"""What people want to hear, and how."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import TenantOwned, Utc


class Preference(TenantOwned):
    """One person's yes or no for a category on a channel; category "*" speaks for all."""

    __tablename__ = "user_notification_preferences"
    __table_args__ = (
        UniqueConstraint("tenant_id", "user_id", "category", "channel", name="uq_user_notification_preferences_choice"),
    )

    user_id: Mapped[str] = mapped_column()
    category: Mapped[str] = mapped_column()
    channel: Mapped[str] = mapped_column()
    enabled: Mapped[bool] = mapped_column()
    updated_at: Mapped[datetime] = mapped_column(Utc)
