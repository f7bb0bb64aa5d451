"""`tidings migrate` on PostgreSQL beside a service that runs: one revision after the other, nobody waits for long."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from app import partitions, schema
from app.standing import revisions
from tests.conftest import wait_until
from tests.docs.service import Service
from tests.servers.postgres import Database, PostgresServer

pytestmark = pytest.mark.timeout(300)  # the command tries several times
FIRST, SECOND, *_, LAST = revisions()
NOBODY = "01900000-0000-7000-8000-000000000000"


@pytest.fixture
def empty(postgres: PostgresServer) -> Iterator[Database]:
    yield postgres.create_database("migrating")
    postgres.drop_database("migrating")


@pytest.fixture
def older(empty: Database) -> Database:
    """A database of the first version."""
    schema.upgrade(empty.owner_url, empty.app_url, revision=FIRST)
    return empty


@pytest.fixture
def machine(empty: Database, tmp_path: Path) -> Service:
    """Where the command is called."""
    urls = {"DATABASE_URL": empty.app_url, "MIGRATION_DATABASE_URL": empty.owner_url}
    return Service(tmp_path, key=None, REDIS_URL="redis://127.0.0.1:9/0", SECRET_KEY="s" * 40, **urls)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """It tries once."""
    monkeypatch.setattr(partitions, "TRIES", 1)


def revision_of(database: Database) -> str | None:
    with psycopg.connect(database.owner_url) as connection:
        found = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return found and str(found[0])


def wait_until_somebody_waits(postgres: PostgresServer, database: Database) -> None:
    """Until a session of this database stands in a queue for a lock."""
    query = "SELECT 1 FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'"
    with psycopg.connect(postgres.admin_url, autocommit=True) as admin:
        wait_until(lambda: admin.execute(query, (database.name,)).fetchone(), seconds=60)


def test_who_reads_is_let_through_while_a_migration_waits_and_it_gives_up_in_words(
    older: Database, machine: Service, postgres: PostgresServer
) -> None:
    # given somebody who reads for long, as a dump does
    with ThreadPoolExecutor(1) as pool, psycopg.connect(older.app_url) as dump:
        dump.execute("SELECT 1 FROM event_logs")
        # when the command waits for that table
        migrating = pool.submit(machine.run, "migrate")
        wait_until_somebody_waits(postgres, older)
        # then a reader who comes after it does not wait for the dump
        with psycopg.connect(older.app_url, options="-c statement_timeout=60s") as reader:
            reader.execute("SELECT status FROM event_logs WHERE id = %s", (NOBODY,))
        assert dump.info.transaction_status == TransactionStatus.INTRANS
        # and the command ends with what it could not do
        done = migrating.result(timeout=100)
        assert dump.info.transaction_status == TransactionStatus.INTRANS
    assert (done.returncode, done.stdout) == (1, "")
    assert f"The database cannot be migrated: revision {SECOND} needs a lock" in done.stderr
    assert "ALTER TABLE event_logs" in done.stderr
    assert "run the command again" in done.stderr
    assert "Traceback" not in done.stderr
    assert revision_of(older) == FIRST
    # and when the dump has ended, the same command finishes
    again = machine.run("migrate")
    assert (again.returncode, "The database is up to date." in again.stdout) == (0, True), again.stderr
    assert revision_of(older) == LAST


@pytest.mark.usefixtures("impatient")
def test_a_revision_that_cannot_have_its_lock_leaves_those_before_it_done(empty: Database) -> None:
    # given somebody who is about to make a table, so that the second revision cannot make its own
    with psycopg.connect(empty.owner_url) as other:
        other.execute("CREATE TABLE topics ()")
        # when an empty database is migrated
        with pytest.raises(schema.InUseError, match=f"revision {SECOND} needs a lock"):
            schema.upgrade(empty.owner_url, empty.app_url)
        # then it is of the first version, in all respects
        assert revision_of(empty) == FIRST
        with psycopg.connect(empty.app_url) as application:
            application.execute("SELECT 1 FROM event_logs")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                application.execute("DELETE FROM alembic_version")
        other.rollback()
    # and goes on from there
    schema.upgrade(empty.owner_url, empty.app_url)
    assert revision_of(empty) == LAST


def test_a_migration_that_is_killed_between_two_revisions_is_taken_up_again(
    empty: Database, machine: Service, postgres: PostgresServer
) -> None:
    with psycopg.connect(empty.owner_url) as other:
        other.execute("CREATE TABLE topics ()")
        killed = subprocess.Popen(
            [".venv/bin/tidings", "migrate"], cwd=machine.folder, env=machine.environment, stdout=subprocess.DEVNULL
        )
        try:
            wait_until_somebody_waits(postgres, empty)
        finally:
            killed.send_signal(signal.SIGKILL)
            killed.wait()
        assert revision_of(empty) == FIRST
        other.rollback()

    again = machine.run("migrate")

    assert (again.returncode, "API key (shown once): tdg_live_" in again.stdout) == (0, True), again.stderr
    assert revision_of(empty) == LAST


@pytest.mark.usefixtures("impatient")
def test_going_back_is_done_one_by_one_as_well(older: Database) -> None:
    schema.upgrade(older.owner_url, older.app_url)
    with psycopg.connect(older.app_url) as dump:
        dump.execute("SELECT 1 FROM notification_rules")
        with pytest.raises(schema.InUseError, match=f"going back to {FIRST} needs a lock"):
            schema.downgrade(older.owner_url)
        assert revision_of(older) == SECOND
    schema.downgrade(older.owner_url)
    assert revision_of(older) is None


@pytest.mark.usefixtures("impatient")
def test_the_coming_months_wait_no_longer_for_their_locks(older: Database) -> None:
    schema.upgrade(older.owner_url, older.app_url)
    later = datetime.now(UTC) + timedelta(days=100)
    with psycopg.connect(older.app_url) as dump:
        dump.execute("SELECT 1 FROM delivery_attempts")
        schema.upgrade(older.owner_url, older.app_url)  # with its months made, it needs no lock
        with pytest.raises(schema.InUseError, match="partitions needs a lock"):
            schema.upgrade(older.owner_url, older.app_url, now=later)
    schema.upgrade(older.owner_url, older.app_url, now=later)
