"""The schema: migrate it forward and back, keep its partitions in order, let the application's role in."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from functools import partial

import structlog
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError
from sqlalchemy import Connection
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from app import partitions
from app.db import Database, apply_scope
from app.partitions import LOCK_SECONDS, Step
from app.standing import MIGRATIONS, revisions
from app.tenancy import Purpose, system

log = structlog.get_logger()


class InUseError(CommandError):
    """A step needs a lock that others have held for too long; the text says which. What came before it is done."""


def upgrade(owner_url: str, app_url: str = "", *, now: datetime | None = None, revision: str = "head") -> None:
    """Bring the database to `revision`, connecting as its owner, and give the role of `app_url` its rights.

    Calling it again is harmless, also at the same time, and makes the partitions of the coming months. On PostgreSQL
    each revision is a transaction of its own: whatever ends this one, the next call goes on from there. Raises
    InUseError when a revision cannot have its locks.
    """
    application = make_url(app_url or owner_url).username or ""
    with _alone(owner_url) as database:
        for step in _way(database, revision):
            _do(database, f"revision {step}", partial(_go_up, step, application, database))
        if not database.is_sqlite and revision == "head":
            at = now or datetime.now(UTC)
            _do(database, "making the coming months' partitions", partial(_make_ahead, at, application, database))


def downgrade(owner_url: str, revision: str = "base") -> None:
    """Take the database back to `revision`, one after the other as `upgrade` does. Raises InUseError as well."""
    with _alone(owner_url) as database:
        for step in _way(database, revision, down=True):
            _do(database, f"going back to {step}", partial(_go_down, step))


def _way(database: Database, target: str, *, down: bool = False) -> list[str]:
    """The revisions to call at, `target` last; alone when there is nothing to do, or Alembic has to say what is wrong.

    Embedded all is one transaction: nobody else is there.
    """
    known = ["base", *revisions()]
    target = known[-1] if target == "head" else target
    if database.is_sqlite or target not in known:
        return [target]
    with database.engine.connect() as connection:
        found = MigrationContext.configure(connection).get_current_revision() or "base"
    if found not in known:
        return [target]
    at, to = known.index(found), known.index(target)
    return (known[to:at][::-1] if down else known[at + 1 : to + 1]) or [target]


def _do(database: Database, what: str, work: Callable[[Connection], None]) -> None:
    """A step in a transaction of its own. Whoever comes after it in the queue for a lock waits as well: so it waits as
    `partitions` does, only so long, and lets them through before it tries again.
    """
    bounds = {} if database.is_sqlite else {"lock_timeout": f"{LOCK_SECONDS}s"}
    for left in reversed(range(partitions.TRIES)):
        try:
            with database.engine.begin() as connection:
                apply_scope(system(Purpose.MIGRATE), connection, bounds)
                work(connection)
            return
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", "") not in partitions.IN_USE:
                raise
            at = " ".join(str(error.statement).split())[:70]
            if not left:
                raise InUseError(
                    f"{what} needs a lock that others hold (a dump, a report, a transaction left open), and has waited"
                    f" {LOCK_SECONDS} s for it, {partitions.TRIES} times, at `{at}`. What comes before it is done and"
                    " stays: run the command again when they have ended."
                ) from error
        log.warning("migration_waits_for_lock", step=what, statement=at, tries_left=left)
        time.sleep(partitions.PAUSE_SECONDS)


def _go_up(step: str, application: str, database: Database, connection: Connection) -> None:
    command.upgrade(_config(connection), step)
    if not database.is_sqlite:  # with the revision, or a crash might leave a schema that looks done and lets nobody in
        _grant(connection, application, database.url.username or "")


def _go_down(step: str, connection: Connection) -> None:
    command.downgrade(_config(connection), step)


def _make_ahead(now: datetime, application: str, database: Database, connection: Connection) -> None:
    partitions.make_ahead(connection, now)
    _grant(connection, application, database.url.username or "")


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
