"""Named lists of recipients."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Id, TenantOwned, Utc, created_at


class Topic(TenantOwned):
    """A named list of recipients that an event can be posted to."""

    __tablename__ = "topics"
    __table_args__ = (UniqueConstraint("tenant_id", "name"),)

    name: Mapped[str] = mapped_column()
    description: Mapped[str] = mapped_column(default="", server_default=text("''"))
    created_at: Mapped[datetime] = created_at()
    updated_at: Mapped[datetime] = mapped_column(Utc)


class TopicRecipient(TenantOwned):
    """One person on one topic's list."""

    __tablename__ = "topic_recipients"
    __table_args__ = (UniqueConstraint("tenant_id", "topic_id", "user_id"), Index(None, "tenant_id", "user_id"))

    topic_id: Mapped[str] = mapped_column(Id)
    user_id: Mapped[str] = mapped_column()
    created_at: Mapped[datetime] = created_at()
