"""The schema: migrate it forward and back, keep its partitions in order, let the application's role in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection
from sqlalchemy.engine import make_url

from app import partitions
from app.db import Database, apply_scope
from app.partitions import Step
from app.standing import MIGRATIONS
from app.tenancy import Purpose, system


def upgrade(owner_url: str, app_url: str = "", *, now: datetime | None = None, revision: str = "head") -> None:
    """Bring the database to `revision`, connecting as its owner, and give the role of `app_url` its rights.

    Calling it again is harmless, also at the same time, and makes the partitions of the coming months.
    """
    with _alone(owner_url) as database, database.engine.connect() as connection:
        apply_scope(system(Purpose.MIGRATE), connection)
        command.upgrade(_config(connection), revision)
        if not database.is_sqlite and revision == "head":
            apply_scope(system(Purpose.MIGRATE), connection)
            partitions.make_ahead(connection, now or datetime.now(UTC))
            _grant(connection, make_url(app_url or owner_url).username or "", database.url.username or "")
        connection.commit()


def downgrade(owner_url: str, revision: str = "base") -> None:
    """Take the database back to `revision`."""
    with _alone(owner_url) as database, database.engine.connect() as connection:
        apply_scope(system(Purpose.MIGRATE), connection)
        command.downgrade(_config(connection), revision)
        connection.commit()


@contextmanager
def _alone(owner_url: str) -> Iterator[Database]:
    """The database, with nobody else changing its schema. Embedded, the lock on the data directory sees to that."""
    database = Database(owner_url, pool_size=2)
    try:
        with nullcontext() if database.is_sqlite else partitions.only_run(database, wait=True):
            yield database
    finally:
        database.close()


def maintain(
    owner_url: str, app_url: str, keep_days: Mapping[str, int], *, now: datetime | None = None, dry_run: bool = False
) -> Iterator[Step]:
    """Make the partitions of the coming months and drop those whose time is over, as the owner: see `partitions`."""
    database = Database(owner_url, pool_size=2)
    try:
        yield from partitions.maintain(database, keep_days, now or datetime.now(UTC), dry_run=dry_run)
        if not dry_run:
            with database.engine.begin() as connection:
                _grant(connection, make_url(app_url or owner_url).username or "", database.url.username or "")
    finally:
        database.close()


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
