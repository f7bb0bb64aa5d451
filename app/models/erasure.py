"""That a person was removed."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Json, TenantOwned, Utc


class Erasure(TenantOwned):
    """The receipt of a person's removal: whom, only as a keyed hash; when; how many rows of each kind."""

    __tablename__ = "erasures"
    __table_args__ = (Index(None, "tenant_id", "id"),)

    user_hash: Mapped[str] = mapped_column()
    requested_at: Mapped[datetime] = mapped_column(Utc)
    finished_at: Mapped[datetime | None] = mapped_column(Utc)
    counts: Mapped[dict[str, int]] = mapped_column(Json)
