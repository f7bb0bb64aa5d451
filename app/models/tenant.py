"""Customers of this installation, and the keys their services and people come with."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.ids import new_id
from app.models.base import Base, Id, Json, TenantOwned, Utc, created_at
from app.tenancy import register_tenant_table


class Tenant(Base):
    """One customer of this installation; everything else belongs to one.

    `preference_defaults` is {category: {channel: bool}}; category "*" speaks for all.
    """

    __tablename__ = "tenants"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column()
    webhook_secret: Mapped[str] = mapped_column()
    preference_defaults: Mapped[dict[str, Any]] = mapped_column(Json, default=dict)
    created_at: Mapped[datetime] = created_at()


register_tenant_table(Tenant.__tablename__)


class ApiKey(TenantOwned):
    """A service's credential. Only its SHA-256 is kept; `hint` is what people recognise it by."""

    __tablename__ = "api_keys"
    __table_args__ = (UniqueConstraint("key_hash"), Index(None, "tenant_id", "id"))

    name: Mapped[str] = mapped_column()
    kind: Mapped[str] = mapped_column()
    hint: Mapped[str] = mapped_column()
    key_hash: Mapped[str] = mapped_column()
    scopes: Mapped[list[str]] = mapped_column(Json)
    created_at: Mapped[datetime] = created_at()
    expires_at: Mapped[datetime | None] = mapped_column(Utc)
    revoked_at: Mapped[datetime | None] = mapped_column(Utc)
    last_used_at: Mapped[datetime | None] = mapped_column(Utc)


class SigningKey(TenantOwned):
    """A key with which a tenant's services sign tokens for people. `material` is encrypted at rest."""

    __tablename__ = "signing_keys"
    __table_args__ = (Index(None, "tenant_id", "id"),)

    name: Mapped[str] = mapped_column()
    algorithm: Mapped[str] = mapped_column()
    material: Mapped[str] = mapped_column()
    created_at: Mapped[datetime] = created_at()
    revoked_at: Mapped[datetime | None] = mapped_column(Utc)


class IdempotencyKey(TenantOwned):
    """A request that must happen once: who asked, for what, and what was answered."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (UniqueConstraint("tenant_id", "api_key_id", "route", "key"), Index(None, "expires_at"))

    api_key_id: Mapped[str] = mapped_column(Id)
    route: Mapped[str] = mapped_column()
    key: Mapped[str] = mapped_column()
    body_hash: Mapped[str] = mapped_column()
    lease_until: Mapped[datetime] = mapped_column(Utc)
    status: Mapped[int | None] = mapped_column()
    answer: Mapped[Any | None] = mapped_column(Json)
    created_at: Mapped[datetime] = created_at()
    expires_at: Mapped[datetime] = mapped_column(Utc)
