"""The production shape, set up as docs/operations.md says: its SQL, `tidings migrate`, web and worker."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.conftest import wait_until
from tests.docs.service import Service
from tests.servers.http import HttpReceiver
from tests.servers.postgres import PostgresServer
from tests.servers.redis import RedisServer

pytestmark = pytest.mark.timeout(300)  # real processes, on a machine that may be busy
PAGE = Path(__file__).resolve().parents[2] / "docs" / "operations.md"
# The test server has roles of these names already.
NAMES = {"tidings_owner": "page_owner", "tidings_app": "page_app", "DATABASE tidings": "DATABASE page_tidings"}


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[dict[str, str]]:
    """What the page's SQL makes: the settings that lead to it."""
    shown = re.search(r"^```sql\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    assert shown
    script = shown[1]
    for name, ours in NAMES.items():
        script = script.replace(name, ours)
    server, _, inside = script.partition("\\connect tidings\n")
    for url, statements in ((postgres.admin_url, server), (postgres.url_for("postgres", "page_tidings"), inside)):
        with psycopg.connect(url, autocommit=True) as connection:
            for statement in filter(None, (one.strip() for one in statements.split(";"))):
                connection.execute(statement)  # type: ignore[arg-type]
    yield {
        "DATABASE_URL": postgres.url_for("page_app", "page_tidings"),
        "MIGRATION_DATABASE_URL": postgres.url_for("page_owner", "page_tidings"),
    }
    postgres.drop_database("page_tidings")
    with psycopg.connect(postgres.admin_url, autocommit=True) as connection:
        connection.execute("DROP ROLE page_app")
        connection.execute("DROP ROLE page_owner")


@pytest.fixture
def web(tmp_path: Path, database: dict[str, str], redis: RedisServer) -> Iterator[Service]:
    """A service that is set up and not yet started."""
    redis.flush()
    settings = {"REDIS_URL": redis.url, "SECRET_KEY": "s" * 40, "WEBHOOK_ALLOWED_CIDRS": "127.0.0.0/8"}
    made = Service(tmp_path / "production", command="web", **database, **settings)
    yield made
    made.kill()


@pytest.fixture
def worker(web: Service) -> Iterator[Service]:
    """The same, as `tidings worker`."""
    made = Service(web.folder, command="worker", **web.settings)
    yield made
    made.kill()


def test_the_pages_way_to_production_leads_there(web: Service, worker: Service) -> None:
    early = web.run("web")
    assert (early.returncode, "Run `tidings migrate` first" in early.stderr) == (1, True)

    migrated = web.run("migrate")
    assert migrated.returncode == 0, migrated.stderr
    assert "The database is up to date." in web.run("migrate").stdout

    with HttpReceiver() as receiver:
        web.start()
        worker.start(wait=False)
        web.call("POST", "/api/webhooks/configurations", {"url": receiver.url("/hook")})
        event_id = web.call("POST", "/api/events", {"eventType": "order.created", "userId": "ada"})["id"]
        receiver.wait_for(1, 90)

        def by_channel() -> dict[str, tuple[str, str | None]]:
            items = web.call("GET", f"/api/deliveries?eventId={event_id}")["items"]
            found = {item["channel"]: (item["status"], item["reason"]) for item in items}
            return found if "delivered" in found.get("in_app", ()) and "delivered" in found.get("webhook", ()) else {}

        reached = wait_until(by_channel, 60)

    assert reached == {
        "webhook": ("delivered", None),
        "in_app": ("delivered", None),
        "email": ("skipped", "no_provider"),
        "sms": ("skipped", "no_provider"),
    }
    assert (web.stop(), worker.stop()) == (0, 0)


def test_a_worker_process_that_dies_is_replaced(web: Service, worker: Service) -> None:
    assert web.run("migrate").returncode == 0
    worker.start(wait=False)
    first = wait_until(lambda: children(worker), 90)

    subprocess.run(["kill", f"-{signal.SIGKILL}", str(first[0])], check=True)

    assert wait_until(lambda: first[0] not in (now := children(worker)) and len(now) == len(first), 60)
    assert '"event": "worker_died"' in worker.log()


def children(service: Service) -> list[int]:
    """The worker processes that a supervisor watches over, once all of them are there."""
    found = [int(one) for one in Path(f"/proc/{service.pid}/task/{service.pid}/children").read_text().split()]
    return found if len(found) == 2 else []
