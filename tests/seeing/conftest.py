"""The production shape in real processes: `web` is set up and started, `workers` are started beside it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.clock import Clock
from app.core import keys
from app.crypto import Vault
from app.db import Database
from app.tenancy import Purpose, system
from tests.docs.service import KEY, Service
from tests.servers.postgres import PostgresServer
from tests.servers.process import free_port
from tests.servers.redis import RedisServer

_SECRET_KEY = "s" * 40


@contextmanager
def web_of(folder: Path, postgres: PostgresServer, template: str, redis: RedisServer, **more: str) -> Iterator[Service]:
    """`tidings web` on a database of its own, with a tenant and the key KEY."""
    redis.flush()
    name = f"seeing{time.monotonic_ns()}"
    made = postgres.create_database(name, template=template)
    database = Database(made.app_url, pool_size=1)
    with database.transaction(system(Purpose.MIGRATE)) as session:
        keys.bootstrap(session, Vault(_SECRET_KEY), Clock(), api_key_secret=KEY)
    database.close()
    settings = {
        "DATABASE_URL": made.app_url,
        "REDIS_URL": redis.url,
        "SECRET_KEY": _SECRET_KEY,
        "WEBHOOK_ALLOWED_CIDRS": "127.0.0.0/8",
        "WORKER_PORT": str(free_port()),
        "SWEEP_SECONDS": "1",
    }
    service = Service(folder / "service", command="web", **(settings | more))
    try:
        service.start()
        yield service
    finally:
        service.kill()
        postgres.drop_database(name)


@contextmanager
def workers_of(web: Service) -> Iterator[Service]:
    """`tidings worker` on the same data; its `url` is where it answers."""
    service = Service(web.folder, command="worker", **web.settings)
    service.port = int(web.settings["WORKER_PORT"])
    try:
        service.start()
        yield service
    finally:
        service.kill()


@pytest.fixture
def more_settings() -> dict[str, str]:
    """Settings of a module's own; override."""
    return {}


@pytest.fixture
def web(
    tmp_path: Path, postgres: PostgresServer, postgres_template: str, redis: RedisServer, more_settings: dict[str, str]
) -> Iterator[Service]:
    with web_of(tmp_path, postgres, postgres_template, redis, **more_settings) as service:
        yield service


@pytest.fixture
def workers(web: Service) -> Iterator[Service]:
    with workers_of(web) as service:
        yield service
