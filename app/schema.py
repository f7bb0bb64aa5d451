"""The schema: migrate it forward and back, make partitions ahead, let the application's role in."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url

from app.db import Database, Purpose, apply_scope, system
from app.ids import first_id_of
from app.standing import MIGRATIONS

PARTITIONED = ("event_logs", "notification_logs", "delivery_attempts", "webhook_delivery_logs")
MONTHS_AHEAD = 2


def upgrade(owner_url: str, app_url: str = "", *, now: datetime | None = None, revision: str = "head") -> None:
    """Bring the database to `revision`, connecting as its owner, and give the role of `app_url` its rights.

    Calling it again is harmless, and makes the partitions of the coming months.
    """
    database = Database(owner_url, pool_size=1)
    try:
        with database.engine.connect() as connection:
            apply_scope(system(Purpose.MIGRATE), connection)
            command.upgrade(_config(connection), revision)
            if not database.is_sqlite and revision == "head":
                make_partitions(connection, now or datetime.now(UTC))
                _grant(connection, make_url(app_url or owner_url).username or "", database.url.username or "")
            connection.commit()
    finally:
        database.close()


def downgrade(owner_url: str, revision: str = "base") -> None:
    """Take the database back to `revision`."""
    database = Database(owner_url, pool_size=1)
    try:
        with database.engine.connect() as connection:
            apply_scope(system(Purpose.MIGRATE), connection)
            command.downgrade(_config(connection), revision)
            connection.commit()
    finally:
        database.close()


def make_partitions(connection: Connection, now: datetime) -> None:
    """One partition a month for each big table, from this month to `MONTHS_AHEAD` months ahead."""
    for table in PARTITIONED:
        for ahead in range(MONTHS_AHEAD + 1):
            start, end = _month(now, ahead), _month(now, ahead + 1)
            name = f"{table}_{start:%Y%m}"
            if connection.execute(text("SELECT to_regclass(:name)"), {"name": name}).scalar() is not None:
                continue
            if _default_holds(connection, table, start, end):
                continue  # rows of that month stand in the default partition already; there they are found as well
            bounds = f"FROM ('{first_id_of(start)}') TO ('{first_id_of(end)}')"
            connection.exec_driver_sql(f"CREATE TABLE {name} PARTITION OF {table} FOR VALUES {bounds}")
            # A partition does not inherit its parent's policies: with none of its own it shows nothing directly.
            connection.exec_driver_sql(f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY")
            connection.exec_driver_sql(f"ALTER TABLE {name} FORCE ROW LEVEL SECURITY")


def _default_holds(connection: Connection, table: str, start: datetime, end: datetime) -> bool:
    apply_scope(system(Purpose.MIGRATE), connection)
    query = text(f"SELECT EXISTS (SELECT 1 FROM {table} WHERE id >= :start AND id < :end)")
    return bool(connection.execute(query, {"start": first_id_of(start), "end": first_id_of(end)}).scalar())


def _month(now: datetime, ahead: int) -> datetime:
    months = now.year * 12 + now.month - 1 + ahead
    return datetime(months // 12, months % 12 + 1, 1, tzinfo=UTC)


def _grant(connection: Connection, role: str, owner: str) -> None:
    if not role or role == owner:
        return
    if not re.fullmatch(r"[A-Za-z0-9_$.-]+", role):
        raise ValueError(f"the role {role!r} of DATABASE_URL is not one that can be granted rights")
    connection.exec_driver_sql(f'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO "{role}"')
    connection.exec_driver_sql(f'REVOKE INSERT, UPDATE, DELETE ON alembic_version FROM "{role}"')


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
