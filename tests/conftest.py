"""Real servers and whole applications for tests: embedded on SQLite, and in production's shape on PostgreSQL and Redis.

    runtime     the application's parts, once embedded and once on PostgreSQL + Redis (two runs of the test)
    app, client Flask's application and test client on that runtime
    api_key     a key with every scope;  auth: its headers;  tenant_id: whose it is
    worker      hears the bell and sweeps while the test runs
    receiver, smtp, twilio_server   local servers of tests/servers, when a test asks for them

`make_settings` says with which settings; override it in a module or class to change them.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from playwright.sync_api import Browser
from sqlalchemy import text

from app import create_app, make_runtime, schema
from app.config import Settings
from app.core import keys
from app.core.runtime import Runtime
from app.running.worker import InProcessWorker
from app.tenancy import Purpose, system
from tests.servers.chromium import open_browser
from tests.servers.postgres import PostgresServer, start_postgres
from tests.servers.redis import RedisServer, start_redis

KEY = "tdg_live_" + "k" * 40

# No example has to be quick, as a busy machine may stop at any of them, and each run tries the same ones.
hypothesis.settings.register_profile(
    "suite", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("suite")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    server = start_postgres()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisServer]:
    server = start_redis()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One for all: a thread cannot have two."""
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="session")
def postgres_template(postgres: PostgresServer) -> str:
    """A migrated database, copied for each test."""
    made = postgres.create_database("template_tidings")
    schema.upgrade(made.owner_url, made.app_url)
    return made.name


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "tidings.db"
    schema.upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(params=["embedded", "production"])
def shape(request: pytest.FixtureRequest) -> str:
    """Which of the two shapes a test runs in."""
    return str(request.param)


@pytest.fixture
def shape_settings(shape: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """Database and queue of a shape, private to one test."""
    common: dict[str, Any] = {"data_dir": tmp_path / "var", "secret_key": "a secret key for tests only, 40 characters"}
    common["max_database_delay"] = 60_000  # a test's process that is held up for seconds is no database that is slow
    if shape == "embedded":
        (tmp_path / "var").mkdir()
        path = tmp_path / "var" / "tidings.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        yield common | {"database_url": f"sqlite:///{path}"}
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    queue: RedisServer = request.getfixturevalue("redis")
    template = request.getfixturevalue("postgres_template")
    name = f"t{time.monotonic_ns()}"
    database = server.create_database(name, template=template)
    queue.flush()
    ranges = ("127.0.0.0/8",)
    yield common | {"database_url": database.app_url, "redis_url": queue.url, "webhook_allowed_cidrs": ranges}
    server.drop_database(name)


@pytest.fixture
def make_settings() -> Callable[..., Settings]:
    """From the shape's values to the settings of a test; override to change them."""
    return lambda **values: Settings(**values)


@pytest.fixture
def settings(shape_settings: dict[str, Any], make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(**shape_settings)


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    made = make_runtime(settings)
    yield made
    made.channels.close()
    made.bell.close()
    made.db.close()


@pytest.fixture
def db(runtime: Runtime) -> Any:
    return runtime.db


@pytest.fixture
def tenant_id(runtime: Runtime) -> str:
    """The first tenant, with its seeds and the API key KEY."""
    with runtime.db.transaction(system(Purpose.MIGRATE)) as session:
        found, _ = keys.bootstrap(session, runtime.vault, runtime.clock, api_key_secret=KEY)
        return found.id


@pytest.fixture
def api_key(tenant_id: str) -> str:
    return KEY


@pytest.fixture
def auth(api_key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {api_key}"}


@pytest.fixture
def app(runtime: Runtime) -> Any:
    return create_app(runtime=runtime)


@pytest.fixture
def client(app: Any) -> Any:
    return app.test_client()


@pytest.fixture
def worker(runtime: Runtime) -> Iterator[InProcessWorker]:
    """Hears the bell and sweeps while the test runs."""
    made = InProcessWorker(runtime)
    made.start()
    yield made
    made.stop()


def wait_until(check: Callable[[], Any], seconds: float = 30.0) -> Any:
    """What `check` returns as soon as it is true; fails after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        if time.monotonic() > end:
            pytest.fail(f"did not come true within {seconds} s: {check}")
        time.sleep(0.01)


def make_due(runtime: Runtime) -> None:
    """Let the time pass that retries wait for."""
    with runtime.db.transaction(system(Purpose.SWEEP)) as session:
        session.execute(text("UPDATE notification_logs SET next_attempt_at = created_at WHERE status = 'pending'"))
        session.execute(text("UPDATE event_logs SET next_attempt_at = created_at WHERE status = 'received'"))
