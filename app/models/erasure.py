"""That a person was removed."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Json, TenantOwned, Utc


class Erasure(TenantOwned):
    """The receipt of a person's removal: whom, only as a keyed hash; when; how many rows of each kind.

    `progress` is who it is and how far it has come, encrypted; it goes when the removal is finished.
    """

    __tablename__ = "erasures"
    __table_args__ = (Index(None, "tenant_id", "id"),)

    user_hash: Mapped[str] = mapped_column()
    requested_at: Mapped[datetime] = mapped_column(Utc)
    finished_at: Mapped[datetime | None] = mapped_column(Utc)
    counts: Mapped[dict[str, int]] = mapped_column(Json)
    progress: Mapped[str | None] = mapped_column()
