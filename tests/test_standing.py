"""How the database stands to the code that starts: newer is refused, and older says what to do. In both shapes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import select

from app import schema
from app.db import Database, apply_scope
from app.models import ApiKey, Tenant
from app.standing import complaint, revisions, standing
from app.tenancy import Purpose, system
from tests.docs.service import Service
from tests.servers.postgres import PostgresServer

TOMORROW = "99990101_of_tomorrow"


@pytest.fixture(params=["sqlite", "postgresql"])
def urls(
    request: pytest.FixtureRequest, tmp_path: Path, postgres: PostgresServer, postgres_template: str
) -> Iterator[tuple[str, str]]:
    """A migrated database: the URL of its owner, and that of the application."""
    if request.param == "sqlite":
        (tmp_path / "var").mkdir()
        url = f"sqlite:///{tmp_path / 'var' / 'tidings.db'}"
        schema.upgrade(url)
        yield url, url
        return
    made = postgres.create_database("standing", template=postgres_template)
    yield made.owner_url, made.app_url
    postgres.drop_database("standing")


def set_revision(url: str, revision: str) -> None:
    """As if another version had migrated the database."""
    database = Database(url, pool_size=1)
    with database.engine.begin() as connection:
        apply_scope(system(Purpose.MIGRATE), connection)
        connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{revision}'")
    database.close()


def run(command: str, folder: Path, urls: tuple[str, str]) -> subprocess.CompletedProcess[str]:
    """A command of the service on this database. None of those tried here gets as far as to start it."""
    owner, application = urls
    given = {"DATA_DIR": str(folder / "var"), "SECRET_KEY": "s" * 40}
    if owner.startswith("postgresql"):
        given |= {"DATABASE_URL": application, "MIGRATION_DATABASE_URL": owner, "REDIS_URL": "redis://127.0.0.1:9/0"}
    return Service(folder / "run", **given).run(command)


@pytest.mark.parametrize(
    ("revision", "how", "words"),
    [
        (TOMORROW, "newer", ("it is at 99990101_of_tomorrow", "Start the version that migrated it", "migrate --down")),
        (revisions()[0], "older", (f"it is at {revisions()[0]}", f"{revisions()[-1]} is needed", "`tidings migrate`")),
    ],
)
def test_the_words_say_how_it_stands_and_what_to_do(
    urls: tuple[str, str], revision: str, how: str, words: tuple[str, ...]
) -> None:
    database = Database(urls[1], pool_size=1)
    assert (standing(database), complaint(database)) == ("current", "")
    set_revision(urls[0], revision)
    assert standing(database) == how
    assert all(word in complaint(database) for word in words), complaint(database)
    database.close()


def test_an_empty_database_says_so(postgres: PostgresServer) -> None:
    made = postgres.create_database("standing_empty")
    database = Database(made.app_url, pool_size=1)
    assert standing(database) == "empty"
    assert complaint(database).startswith("The database is empty. Run `tidings migrate` first")
    database.close()
    postgres.drop_database("standing_empty")


def test_nothing_starts_on_a_newer_database_and_nothing_touches_it(urls: tuple[str, str], tmp_path: Path) -> None:
    set_revision(urls[0], TOMORROW)
    production = urls[0].startswith("postgresql")
    for command in ("up", "migrate", *(("web", "worker") if production else ())):
        done = run(command, tmp_path, urls)
        assert (done.returncode, done.stdout) == (1, ""), command
        (line,) = done.stderr.strip().splitlines()
        assert line.startswith("The database is newer than this program: it is at 99990101_of_tomorrow"), command
    database = Database(urls[1], pool_size=1)
    assert standing(database) == "newer"
    database.close()


def test_web_and_worker_do_not_start_on_an_older_database(
    postgres: PostgresServer, postgres_template: str, tmp_path: Path
) -> None:
    made = postgres.create_database("standing_older", template=postgres_template)
    set_revision(made.owner_url, revisions()[0])
    for command in ("web", "worker"):
        done = run(command, tmp_path, (made.owner_url, made.app_url))
        assert (done.returncode, done.stdout) == (1, ""), command
        (line,) = done.stderr.strip().splitlines()
        assert line.startswith("The database is older than this program"), line
        assert "Run `tidings migrate` first, as its owner" in line
    postgres.drop_database("standing_older")


def test_the_embedded_shape_migrates_an_older_database_by_itself(tmp_path: Path) -> None:
    (tmp_path / "var").mkdir()
    url = f"sqlite:///{tmp_path / 'var' / 'tidings.db'}"
    schema.upgrade(url, revision=revisions()[0])
    with Service(tmp_path, DATA_DIR=str(tmp_path / "var"), SECRET_KEY="s" * 40) as service:
        assert service.call("GET", "/api/events")["items"] == []
    database = Database(url, pool_size=1)
    assert standing(database) == "current"
    database.close()


@pytest.mark.parametrize("start", ["empty", "older"])
def test_many_may_migrate_at_once(tmp_path: Path, postgres: PostgresServer, start: str) -> None:
    # given a database that is empty, or of a version before
    made = postgres.create_database("at_once")
    try:
        if start == "older":
            schema.upgrade(made.owner_url, made.app_url, revision=revisions()[0])
        # when each of several machines migrates it as it starts
        with ThreadPoolExecutor(3) as pool:
            done = list(
                pool.map(lambda folder: run("migrate", tmp_path / folder, (made.owner_url, made.app_url)), "abc")
            )
        # then none of them is told of a fault, and there is one tenant with one key
        assert [one.returncode for one in done] == [0] * 3, [one.stderr for one in done]
        database = Database(made.app_url, pool_size=1)
        assert standing(database) == "current"
        with database.transaction(system(Purpose.MIGRATE), read_only=True) as session:
            assert [len(session.execute(select(model)).all()) for model in (Tenant, ApiKey)] == [1, 1]
        database.close()
    finally:
        postgres.drop_database("at_once")
