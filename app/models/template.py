"""The words."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Json, TenantOwned, Utc, created_at


class Template(TenantOwned):
    """Text for a key on a channel in a locale ("" for any). `parts` is {part: Handlebars text}.

    It overrides the text of the same key that ships with the product. Keys that begin with
    `partials/` or `layouts/` are pieces that other templates include.
    """

    __tablename__ = "message_templates"
    __table_args__ = (UniqueConstraint("tenant_id", "key", "channel", "locale"),)

    key: Mapped[str] = mapped_column()
    channel: Mapped[str] = mapped_column()
    locale: Mapped[str] = mapped_column(default="")
    version: Mapped[int] = mapped_column(default=1)
    parts: Mapped[dict[str, str]] = mapped_column(Json)
    created_at: Mapped[datetime] = created_at()
    updated_at: Mapped[datetime] = mapped_column(Utc)
