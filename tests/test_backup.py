"""A backup is restored elsewhere, as docs/operations.md says: all is there, and what waits goes out once."""

from __future__ import annotations

import re
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from standardwebhooks.webhooks import Webhook

from app.config import SettingsError
from app.core.pipeline import EventInput
from app.core.runtime import Runtime
from app.models import Delivery, Event
from app.running import backup
from providers.contract import Channel
from tests.conftest import wait_until
from tests.core.helpers import ORDER, accept, drain, post_direct, rows_of
from tests.processes import Processes, processes
from tests.servers.http import Answer, HttpReceiver, hang
from tests.servers.postgres import PostgresServer, start_postgres
from tests.servers.redis import RedisServer

PAGE = Path(__file__).resolve().parents[1] / "docs" / "operations.md"
# The time that a restore takes: what was to be tried later is due, and leases are over.
LATER = (
    "UPDATE notification_logs SET next_attempt_at = created_at WHERE status = 'pending'",
    "UPDATE notification_logs SET lease_until = created_at WHERE status = 'sending'",
)


@pytest.fixture
def elsewhere() -> Iterator[PostgresServer]:
    """Another server, as empty as a new one."""
    server = start_postgres()
    yield server
    server.stop()


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with HttpReceiver() as made:
        yield made


def call(service: Processes, method: str, path: str, body: Any = None) -> Any:
    return service.web.call(method, path, body)


def deliveries(service: Processes) -> dict[str, dict[str, Any]]:
    return {item["id"]: item for item in call(service, "GET", "/api/deliveries?limit=200")["items"]}


@pytest.mark.timeout(300)
def test_a_restored_service_goes_on_where_the_backup_was_made(
    shape: str,
    shape_settings: dict[str, Any],
    tenant_id: str,
    tmp_path: Path,
    receiver: HttpReceiver,
    request: pytest.FixtureRequest,
) -> None:
    # given a service with a person, a subscriber, and an event that went out
    with processes(shape, tmp_path, shape_settings, WEBHOOK_RETRY_DELAY="600000") as service:
        person = call(service, "PUT", "/api/recipients/ada", {"name": "Ada", "email": "ada@example.com"})
        hook = call(service, "POST", "/api/webhooks/configurations", {"url": receiver.url("/hook")})
        call(service, "POST", "/api/events", {"eventType": "order.created", "userId": "ada", "data": ORDER})
        receiver.wait_for(1, 60)
        wait_until(lambda: sum(item["status"] == "delivered" for item in deliveries(service).values()) == 2, 60)
        # and one that waits for its next try, and one that is on the wire
        receiver.on("/hook", Answer(503))
        call(service, "POST", "/api/events", {"eventType": "waits"})
        wait_until(lambda: any(item["reason"] == "http_503" for item in deliveries(service).values()), 60)
        receiver.on("/hook", hang())
        call(service, "POST", "/api/events", {"eventType": "hangs"})
        receiver.wait_for(3, 60)
        before = deliveries(service)
        # when a backup is made while it runs, all of it is lost, and the backup restored elsewhere
        copy = back_up(shape, service, shape_settings, tmp_path)
    restored = restore(shape, copy, shape_settings, request)
    receiver.on("/hook", Answer(204))
    seen = len(receiver.ledger)
    with processes(shape, tmp_path / "elsewhere", restored) as service:
        # then what waited and what was on the wire goes out, each once
        wait_until(
            lambda: all(item["status"] not in ("pending", "sending") for item in deliveries(service).values()), 60
        )
        after = deliveries(service)
        fresh = receiver.ledger[seen:]
        unfinished = {found for found, item in before.items() if item["status"] in ("pending", "sending")}
        assert len(unfinished) == 2
        assert sorted(one.headers["webhook-id"] for one in fresh) == sorted(unfinished)
        # and its secrets open: the subscriber still knows who it is
        for one in fresh:
            Webhook(hook["secret"]).verify(one.body, dict(one.headers))
        # and everything else is as it was
        assert {found: item for found, item in after.items() if found not in unfinished} == {
            found: item for found, item in before.items() if found not in unfinished
        }
        assert call(service, "GET", "/api/recipients/ada") == person
        assert len(call(service, "GET", "/api/notifications?userId=ada")["items"]) == 1
        assert len(call(service, "GET", "/api/events")["items"]) == 3


def back_up(shape: str, service: Processes, values: dict[str, Any], folder: Path) -> Path:
    if shape == "embedded":
        made = service.web.run("backup", str(folder / "backup"))
        assert made.returncode == 0, made.stderr
        again = service.web.run("backup", str(folder / "backup"))
        assert (again.returncode, "is there already" in again.stderr) == (1, True)
        return folder / "backup"
    assert "back it up by its own means" in service.web.run("backup", str(folder / "backup")).stderr
    superuser = values["database_url"].replace("tidings_app@", "postgres@")
    subprocess.run(["pg_dump", "--format=custom", f"--file={folder}/tidings.dump", superuser], check=True)
    return folder / "tidings.dump"


def restore(shape: str, copy: Path, values: dict[str, Any], request: pytest.FixtureRequest) -> dict[str, Any]:
    """Restore a backup, let some time pass, and return the settings that lead to it."""
    if shape == "embedded":
        with closing(sqlite3.connect(copy / "tidings.db")) as connection, connection:
            for statement in LATER:
                connection.execute(statement)
        return values | {"data_dir": copy, "database_url": f"sqlite:///{copy}/tidings.db"}
    server: PostgresServer = request.getfixturevalue("elsewhere")
    queue: RedisServer = request.getfixturevalue("redis")
    queue.flush()
    made = server.create_database("restored")
    superuser = server.url_for("postgres", made.name)
    subprocess.run(["pg_restore", f"--dbname={superuser}", "--exit-on-error", str(copy)], check=True)
    with psycopg.connect(superuser) as connection:
        for statement in LATER:
            connection.execute(statement)  # type: ignore[arg-type]
    return values | {"database_url": made.app_url}


def test_what_waits_in_a_backup_can_be_called_off_before_the_start(runtime: Runtime, tenant_id: str) -> None:
    # given a delivery and an event that wait
    post_direct(runtime, tenant_id, Channel.IN_APP, "ada", title="t", text="old words")
    accept(runtime, tenant_id, EventInput("order.created", ORDER, ("ada",)))
    # when the page's statements are run by the application's role
    shown = re.search(r"^```sql\n(SELECT set_config.*?)^```$", PAGE.read_text(), re.M | re.S)
    assert shown
    if runtime.db.is_sqlite:
        with closing(sqlite3.connect(runtime.db.url.database or "")) as connection:
            connection.executescript(shown[1].partition("\n")[2])
    else:
        with psycopg.connect(runtime.settings.database_url) as connection:
            connection.execute(shown[1])  # type: ignore[arg-type]
    # then nothing of it is sent
    drain(runtime)
    assert [row.status for row in rows_of(runtime, tenant_id, Delivery)] == ["canceled"]
    assert [row.status for row in rows_of(runtime, tenant_id, Event)] == ["failed"]


class TestEmbedded:
    @pytest.fixture
    def shape(self) -> str:
        return "embedded"

    def test_a_copy_has_the_key_beside_it_and_nobody_else_may_read_it(
        self, runtime: Runtime, tenant_id: str, tmp_path: Path
    ) -> None:
        (runtime.settings.data_dir / "secret_key").write_text("k" * 40)
        for path in back_up_here(runtime, tmp_path / "copy"):
            assert path.stat().st_mode & 0o077 == 0
        assert (tmp_path / "copy" / "secret_key").read_text() == "k" * 40
        assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == ["secret_key", "tidings.db"]

    def test_a_copy_holds_what_stands_in_the_log_only(self, runtime: Runtime, tenant_id: str, tmp_path: Path) -> None:
        post_direct(runtime, tenant_id, Channel.IN_APP, "ada", title="t", text="just now")
        back_up_here(runtime, tmp_path / "copy")
        with closing(sqlite3.connect(tmp_path / "copy" / "tidings.db")) as connection:
            assert connection.execute("SELECT count(*) FROM notification_logs").fetchone() == (1,)

    def test_without_a_database_there_is_nothing_to_copy(self, runtime: Runtime, tmp_path: Path) -> None:
        settings = replace(runtime.settings, data_dir=tmp_path / "empty")
        with pytest.raises(SettingsError, match="no database"):
            backup.back_up(settings, tmp_path / "copy")
        assert not (tmp_path / "copy").exists()


def back_up_here(runtime: Runtime, folder: Path) -> list[Path]:
    return backup.back_up(runtime.settings, folder)
