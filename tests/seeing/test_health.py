"""Live and ready, of web and worker, while one part after the other goes away and comes back."""

from __future__ import annotations

import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import wait_until
from tests.docs.service import Service
from tests.servers.redis import RedisServer, start_redis

pytestmark = pytest.mark.timeout(300)  # real processes, on a machine that may be busy


def health(service: Service, which: str = "ready") -> tuple[int, dict[str, Any]]:
    """Status and body of a health page; (0, {}) when nobody answers."""
    try:
        with urllib.request.urlopen(f"{service.url}/health/{which}", timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())
    except OSError:
        return 0, {}


def part(service: Service, name: str) -> Any:
    """What `/health/ready` says of one part."""
    return verdict(service, name)[2]


def verdict(service: Service, name: str) -> tuple[int, Any, Any]:
    """What one answer of `/health/ready` says: its status, of the whole, and of one part."""
    status, body = health(service)
    return status, body.get("status"), body.get("parts", {}).get(name)


def lives(service: Service) -> bool:
    return health(service, "live") == (200, {"status": "ok"})


def children(service: Service) -> list[int]:
    """The processes that a parent watches over."""
    return [int(one) for one in Path(f"/proc/{service.pid}/task/{service.pid}/children").read_text().split()]


class TestParts:
    """Redis of its own, so that it can be stopped."""

    @pytest.fixture
    def queue(self) -> Iterator[RedisServer]:
        server = start_redis()
        yield server
        server.stop()

    @pytest.fixture
    def more_settings(self, queue: RedisServer) -> dict[str, str]:
        return {"REDIS_URL": queue.url}

    def test_the_part_that_is_away_is_named(self, web: Service, workers: Service, queue: RedisServer) -> None:
        everything = {"database": "ok", "schema": "ok", "redis": "ok", "workers": "ok"}
        for service in (web, workers):
            wait_until(lambda one=service: health(one) == (200, {"status": "ok", "parts": everything}), 60)

        queue.stop()

        degraded = (200, "degraded", "unreachable")
        for service in (web, workers):
            wait_until(lambda one=service: verdict(one, "redis") == degraded and lives(one), 60)
        wait_until(lambda: 'tidings_part_up{part="redis"} 0.0' in workers.page("/metrics"), 60)


def test_a_database_that_goes_away_takes_readiness_with_it_and_gives_it_back(
    web: Service, workers: Service, postgres: Any
) -> None:
    name = web.settings["DATABASE_URL"].rpartition("/")[2]
    wait_until(lambda: health(workers)[1].get("status") == "ok", 60)

    with admin(postgres) as connection:
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
        connection.execute(end, [name])
        down = [(503, "down", "unreachable"), (503, "down", "no answer")]
        for service in (web, workers):
            wait_until(lambda one=service: verdict(one, "database") in down and lives(one), 60)
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")

    for service in (web, workers):
        wait_until(lambda one=service: health(one)[1].get("status") == "ok", 60)


def test_worker_processes_that_hang_or_die_are_counted(web: Service, workers: Service) -> None:
    wait_until(lambda: part(workers, "workers") == "ok", 60)
    first, second = children(workers)

    os.kill(first, signal.SIGSTOP)
    wait_until(lambda: verdict(workers, "workers") == (200, "degraded", "1 of 2"), 60)
    os.kill(second, signal.SIGSTOP)
    # none is left, but not yet for so long that only a new start helps
    wait_until(lambda: verdict(workers, "workers") == (503, "down", "0 of 2") and lives(workers), 60)

    for pid in (first, second):
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: part(workers, "workers") == "ok", 60)
    assert (web.stop(), workers.stop()) == (0, 0)


def test_without_a_port_a_worker_answers_nobody(web: Service) -> None:
    silent = Service(web.folder, command="worker", **(web.settings | {"WORKER_PORT": "0"}))
    silent.start(wait=False)
    wait_until(lambda: len(children(silent)) == 2, 60)
    wait_until(lambda: part(web, "workers") == "ok", 60)

    assert silent.stop() == 0
    assert not list((web.folder / "metrics").glob("worker-*"))


def admin(postgres: Any) -> Any:
    """A connection of the server's owner."""
    return psycopg.connect(postgres.admin_url, autocommit=True)
