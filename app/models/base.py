"""What all records share: ids, tenants, times and JSON, alike on SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import CHAR, JSON, DateTime, MetaData, String, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import DeclarativeBase, Mapped, declared_attr, mapped_column
from sqlalchemy.types import TypeDecorator

from app.ids import new_id
from app.tenancy import register_tenant_table


class Id(TypeDecorator[str]):
    """A UUID that is text in Python: `uuid` on PostgreSQL, 36 characters on SQLite."""

    impl = CHAR(36)
    cache_ok = True

    def load_dialect_impl(self, dialect: Any) -> Any:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.UUID(as_uuid=False))
        return dialect.type_descriptor(CHAR(36))


class Utc(TypeDecorator[datetime]):
    """An aware time in UTC: `timestamptz` on PostgreSQL; on SQLite text whose order is the order of time."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Any) -> Any:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(DateTime(timezone=True))
        return dialect.type_descriptor(String(27))

    def process_bind_param(self, value: datetime | None, dialect: Any) -> Any:
        if value is None or dialect.name == "postgresql":
            return value
        return utc_text(value)

    def process_result_value(self, value: Any, _dialect: Any) -> datetime | None:
        if value is None or isinstance(value, datetime):
            return value
        return datetime.fromisoformat(value)


@lru_cache(maxsize=256)  # the rows of a batch share their times
def utc_text(value: datetime) -> str:
    """RFC 3339 in UTC with microseconds; text order is time order."""
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


Json = JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")


class Base(DeclarativeBase):
    """The root of all records."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class TenantOwned(Base):
    """A record of one tenant.

    The mapper's identity is (tenant_id, id), so that what the ORM writes always names the tenant.
    """

    __abstract__ = True

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    tenant_id: Mapped[str] = mapped_column(Id, nullable=False)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__tablename__" in cls.__dict__:
            register_tenant_table(cls.__tablename__)

    @declared_attr.directive
    @classmethod
    def __mapper_args__(cls) -> dict[str, Any]:
        if "__tablename__" not in cls.__dict__:
            return {}
        columns = cls.__table__.c
        return {"primary_key": [columns.tenant_id, columns.id]}


def created_at() -> Any:
    """A column with the time of insertion, which the writer gives."""
    return mapped_column(Utc, nullable=False)


def flag(default: bool) -> Any:
    """A column that is true or false."""
    return mapped_column(nullable=False, default=default, server_default=text("true" if default else "false"))
