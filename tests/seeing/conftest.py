"""The production shape in real processes: `web` is set up and started, `workers` are started beside it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.service import Service
from tests.servers.postgres import PostgresServer
from tests.servers.process import free_port
from tests.servers.redis import RedisServer


@pytest.fixture
def more_settings() -> dict[str, str]:
    """Settings of a module's own; override."""
    return {}


@pytest.fixture
def web(
    tmp_path: Path, postgres: PostgresServer, postgres_template: str, redis: RedisServer, more_settings: dict[str, str]
) -> Iterator[Service]:
    redis.flush()
    name = f"seeing{time.monotonic_ns()}"
    database = postgres.create_database(name, template=postgres_template)
    settings = {
        "DATABASE_URL": database.app_url,
        "MIGRATION_DATABASE_URL": database.owner_url,
        "REDIS_URL": redis.url,
        "SECRET_KEY": "s" * 40,
        "WEBHOOK_ALLOWED_CIDRS": "127.0.0.0/8",
        "WORKER_PORT": str(free_port()),
        "SWEEP_SECONDS": "1",
        "TMPDIR": str(tmp_path),
    }
    made = Service(tmp_path / "service", command="web", **(settings | more_settings))
    assert made.run("migrate").returncode == 0
    made.start()
    yield made
    made.kill()
    postgres.drop_database(name)


@pytest.fixture
def workers(web: Service) -> Iterator[Service]:
    """`tidings worker`; its `url` is where it answers."""
    made = Service(web.folder, command="worker", **web.settings)
    made.port = int(web.settings["WORKER_PORT"])
    made.start()
    yield made
    made.kill()
