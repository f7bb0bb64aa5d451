"""What the installation keeps for itself; no tenant's. Only `system` transactions see these on PostgreSQL."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import String, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, Json, Utc

# In the order of its bytes: names that begin alike stand together.
ByBytes = String().with_variant(String(collation="C"), "postgresql")


class ProviderRate(Base):
    """When a provider with a rate limit may next be given a message: one clock for all processes."""

    __tablename__ = "provider_rates"

    name: Mapped[str] = mapped_column(primary_key=True)
    next_free_at: Mapped[datetime] = mapped_column(Utc)


class Breaker(Base):
    """A provider or webhook host that is left alone until `probe_at`. A closed breaker has no row.

    `openings` counts the probes that failed, and with them how long it is left alone.
    """

    __tablename__ = "breakers"

    name: Mapped[str] = mapped_column(ByBytes, primary_key=True)
    reason: Mapped[str] = mapped_column()
    openings: Mapped[int] = mapped_column(default=1, server_default=text("1"))
    opened_at: Mapped[datetime] = mapped_column(Utc)
    probe_at: Mapped[datetime] = mapped_column(Utc)


class ServiceState(Base):
    """A figure that one process measured for all, such as the backlog."""

    __tablename__ = "service_state"

    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[dict[str, Any]] = mapped_column(Json)
    measured_at: Mapped[datetime] = mapped_column(Utc)
