"""The servers of the suite: the roles bind, copies are cheap to take, and nothing outlives a killed run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from playwright.sync_api import Browser, Error

from tests.servers.postgres import PostgresServer, start_postgres
from tests.servers.process import StartError, free_port
from tests.servers.redis import RedisServer, start_redis

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    server = start_postgres()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    server = start_redis()
    yield server
    server.stop()


def test_row_level_security_binds_the_application_in_a_copy_of_a_template(postgres: PostgresServer) -> None:
    template = postgres.create_database("template_a")
    with psycopg.connect(template.owner_url) as owner:
        owner.execute("CREATE TABLE things (id serial PRIMARY KEY, tenant text)")
        owner.execute("ALTER TABLE things ENABLE ROW LEVEL SECURITY")
        owner.execute("CREATE POLICY own ON things USING (tenant = 'a')")

    copy = postgres.create_database("copy_a", template="template_a")

    with psycopg.connect(copy.owner_url) as owner:
        owner.execute("INSERT INTO things (tenant) VALUES ('a'), ('b')")
    with psycopg.connect(copy.app_url) as app:
        assert app.execute("SELECT tenant FROM things").fetchall() == [("a",)]
        app.execute("INSERT INTO things (tenant) VALUES ('a')")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            app.execute("INSERT INTO things (tenant) VALUES ('b')")


def test_the_application_may_use_what_the_owner_makes_and_make_nothing_itself(postgres: PostgresServer) -> None:
    database = postgres.create_database("grants")
    with psycopg.connect(database.owner_url) as owner:
        owner.execute("CREATE SCHEMA aside")
        owner.execute("CREATE TABLE aside.things (id serial PRIMARY KEY)")
        owner.execute("CREATE FUNCTION seven() RETURNS int LANGUAGE sql AS 'SELECT 7'")

    with psycopg.connect(database.app_url, autocommit=True) as app:
        app.execute("INSERT INTO aside.things DEFAULT VALUES")
        app.execute("UPDATE aside.things SET id = id + 1")
        app.execute("DELETE FROM aside.things")
        assert app.execute("SELECT seven()").fetchone() == (7,)
        for forbidden in ("CREATE TABLE mine ()", "CREATE TABLE aside.mine ()", "TRUNCATE aside.things"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                app.execute(forbidden)


@pytest.mark.parametrize("role", ["tidings_owner", "tidings_app"])
def test_neither_role_can_pass_by_row_level_security(postgres: PostgresServer, role: str) -> None:
    with psycopg.connect(postgres.admin_url) as admin:
        powers = admin.execute(
            "SELECT rolsuper, rolbypassrls, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = %s", [role]
        ).fetchone()

    assert powers == (False, False, False, False)


def test_a_database_is_dropped_under_whoever_is_connected(postgres: PostgresServer) -> None:
    database = postgres.create_database("doomed")
    client = psycopg.connect(database.app_url)

    postgres.drop_database("doomed")
    postgres.drop_database("doomed")

    with pytest.raises(psycopg.OperationalError):
        client.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(database.app_url)


def test_only_a_durable_postgres_syncs_to_disk(postgres: PostgresServer) -> None:
    durable = start_postgres(durable=True)
    settings = []
    for server in (postgres, durable):
        with psycopg.connect(server.admin_url) as admin:
            settings.append([admin.execute(f"SHOW {name}").fetchone() for name in ("fsync", "synchronous_commit")])
    durable.stop()

    assert settings == [[("off",), ("off",)], [("on",), ("on",)]]
    assert not durable.process.folder.exists()


def test_numbered_redis_databases_are_apart(redis_server: RedisServer) -> None:
    with (
        redis.Redis.from_url(redis_server.url_for(3)) as three,
        redis.Redis.from_url(redis_server.url_for(255)) as last,
    ):
        three.set("a", "1")
        last.set("a", "2")

        redis_server.flush(3)

        assert three.get("a") is None
        assert last.get("a") == b"2"
        redis_server.flush()
        assert last.get("a") is None


def test_redis_comes_back_where_it_was() -> None:
    first = start_redis()
    first.stop()

    second = start_redis(port=first.port)

    assert second.url == first.url
    second.stop()


def test_a_taken_port_is_not_mistaken_for_ours(redis_server: RedisServer) -> None:
    with pytest.raises(StartError, match="ended while it started"):
        start_redis(port=redis_server.port)


def test_the_browser_reads_pages_and_reaches_nothing_outside(browser: Browser) -> None:
    page = browser.new_page()
    page.set_content("<p>Grüße, 漢字</p>")

    assert page.inner_text("p") == "Grüße, 漢字"
    for outside in ("http://example.org/", "http://192.0.2.1/", "http://[2001:db8::1]/"):
        with pytest.raises(Error, match="ERR_NAME_NOT_RESOLVED"):
            page.goto(outside)
    with pytest.raises(Error, match="ERR_CONNECTION_REFUSED"):
        page.goto(f"http://127.0.0.1:{free_port()}/")
    page.close()


def test_a_killed_run_leaves_no_process_and_no_folder() -> None:
    script = (
        "import time; from tests.servers import postgres, redis; "
        "p = postgres.start_postgres(); r = redis.start_redis(); "
        "print(p.process.pid, r.process.pid, p.process.folder, r.process.folder, flush=True); time.sleep(600)"
    )
    run = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    *pids, postgres_folder, redis_folder = run.stdout.readline().split()

    run.send_signal(signal.SIGKILL)
    run.wait()

    wait_until(lambda: not any(is_running(int(pid)) for pid in pids))
    wait_until(lambda: not Path(postgres_folder).exists() and not Path(redis_folder).exists())


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        # Nobody may be there to collect an orphan in a container: a zombie holds nothing.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "still there after 30 s"
        time.sleep(0.05)
