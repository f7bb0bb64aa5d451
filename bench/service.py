"""The service as a user starts it, in either shape, with durable settings, on free ports and in folders of its own.

with Service("production", email_port=25, webhooks=True) as service:
    service.api.post("/api/events", {...})
    service.wait_until_done()
    service.usage()      # CPU so far, by kind of process
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import sqlite3
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg

from bench import cpu
from bench.api import Api
from tests.servers.postgres import PostgresServer, start_postgres
from tests.servers.process import ServerProcess, free_port, make_folder
from tests.servers.redis import RedisServer, start_redis

KEY = "tdg_live_" + "b" * 40
_TIDINGS = str(Path(sys.executable).with_name("tidings"))
_UNLIMITED = "999999999 per minute"
# Both tables have partial indexes for these, so that asking costs the machine next to nothing.
_UNDONE = (
    "SELECT EXISTS (SELECT 1 FROM event_logs WHERE status = 'received')"
    " OR EXISTS (SELECT 1 FROM event_logs WHERE status = 'planning')"
    " OR EXISTS (SELECT 1 FROM notification_logs WHERE status = 'pending')"
    " OR EXISTS (SELECT 1 FROM notification_logs WHERE status = 'sending')"
)


class Service:
    """See the module. `worker=False` (production only): nothing is planned or sent. `settings`: others than usual."""

    def __init__(
        self, shape: str, *, email_port: int = 0, worker: bool = True, settings: Mapping[str, str] | None = None
    ) -> None:
        self.shape = shape
        self._settings = dict(settings or {})
        self._email_port = email_port
        self._with_worker = worker
        self._ending = contextlib.ExitStack()
        self._port = free_port()
        self._processes: dict[str, int] = {}
        self._connection: Any = None
        self.own: set[int] = set()  # processes of the trees that serve only this benchmark

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._ending.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.close()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the web process."""
        return "127.0.0.1", self._port

    @property
    def roots(self) -> dict[str, int]:
        """{kind of process: the id of the first of its tree}."""
        return dict(self._processes)

    def usage(self) -> cpu.Usage:
        """User and system time so far, by kind of process."""
        return cpu.usage(self._processes, self.own)

    def memory(self) -> dict[str, tuple[int, int, int]]:
        """See `cpu.memory`."""
        return cpu.memory(self._processes)

    def ask(self, question: str) -> list[Any]:
        """Rows of a query, by a connection that passes by row-level security and whose CPU does not count."""
        return list(self._connection.execute(question).fetchall())

    def is_at_work(self) -> bool:
        """Whether an event is not planned or a delivery has no result yet."""
        return bool(self.ask(_UNDONE)[0][0])

    def wait_until_done(self, timeout_s: float = 300.0) -> None:
        """Until every event is planned and every delivery has its result. Raises TimeoutError."""
        end = time.monotonic() + timeout_s
        while self.is_at_work():
            if time.monotonic() > end:
                found = "SELECT status, reason, count(*) FROM notification_logs GROUP BY status, reason"
                raise TimeoutError(f"not done after {timeout_s:g} s: {self.ask(found)}")
            time.sleep(0.02)

    @property
    def database_url(self) -> str:
        """Of the production shape, as the application's role."""
        return self._database.app_url

    @property
    def worker_settings(self) -> dict[str, Any]:
        """Of the production shape, for a worker's parts in this process."""
        given = {name.lower(): value for name, value in self._worker_environment.items()}
        return {name: given[name] for name in ("database_url", "redis_url", "secret_key")}

    def run(self, statement: str) -> None:
        """A statement without an answer, by the same connection as `ask`."""
        self._connection.execute(statement)

    def outcomes(self, event_type: str) -> dict[str, int]:
        """{status: how many deliveries} of an event type."""
        counted = f"SELECT status, count(*) FROM notification_logs WHERE event_type = '{event_type}' GROUP BY status"
        return dict(self.ask(counted))

    def _start(self) -> None:
        folder = make_folder("bench", durable=True)
        env = self._environment(folder)
        if self.shape == "embedded":
            self._run("service", [_TIDINGS, "up"], env)
        else:
            env |= self._servers()
            self._worker_environment = dict(env)
            migration = ServerProcess("migrate", make_folder("bench"))
            self._ending.callback(migration.stop)
            migration.run([_TIDINGS, "migrate"], env)
            self._run("web", [_TIDINGS, "web"], env)
            if self._with_worker:
                self._run("worker", [_TIDINGS, "worker"], env)
        self._wait_until_ready()
        self._connect(folder)
        self._make_bare()
        self.api = Api(*self.address, KEY)
        self._ending.callback(self.api.close)

    def _environment(self, folder: Path) -> dict[str, str]:
        env = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "PORT": str(self._port),
            "DATA_DIR": str(folder / "var"),
            "BOOTSTRAP_API_KEY": KEY,
            "WEBHOOK_ALLOWED_CIDRS": "127.0.0.0/8",
            "RATE_LIMIT_EVENTS": _UNLIMITED,
            "RATE_LIMIT_WRITE": _UNLIMITED,
        }
        if self._email_port:
            env |= {"EMAIL_HOST": "127.0.0.1", "EMAIL_PORT": str(self._email_port)}
        return env | self._settings

    def _servers(self) -> dict[str, str]:
        self._postgres: PostgresServer = start_postgres(durable=True)
        self._ending.callback(self._postgres.stop)
        self._redis: RedisServer = start_redis(durable=True)
        self._ending.callback(self._redis.stop)
        self._processes["postgres"] = self._postgres.process.pid
        self._processes["redis"] = self._redis.process.pid
        self._database = self._postgres.create_database("tidings")
        return {
            "DATABASE_URL": self._database.app_url,
            "MIGRATION_DATABASE_URL": self._database.owner_url,
            "REDIS_URL": self._redis.url,
            "SECRET_KEY": "a secret key for benchmarks only, 40 characters",
            "PROMETHEUS_MULTIPROC_DIR": str(make_folder("bench")),
        }

    def _run(self, kind: str, command: list[str], env: dict[str, str]) -> None:
        process = ServerProcess(kind, make_folder("bench"))
        process.start(command, env)
        self._ending.callback(process.stop, signal.SIGTERM)
        self._processes = {kind: process.pid, **self._processes}
        self._last = process

    def _wait_until_ready(self) -> None:
        url = "http://{}:{}/health/ready".format(*self.address)

        def is_ready() -> bool:
            try:
                with urllib.request.urlopen(url, timeout=5) as answer:
                    return bool(answer.status == 200)
            except (urllib.error.HTTPError, http.client.HTTPException):
                return False

        self._last.wait_until(is_ready, timeout=240.0)

    def _connect(self, folder: Path) -> None:
        if self.shape == "embedded":
            path = f"file:{folder / 'var' / 'tidings.db'}?mode=ro"
            self._connection = sqlite3.connect(path, uri=True, isolation_level=None, timeout=30)
        else:
            self._connection = psycopg.connect(self._postgres.url_for("postgres", "tidings"), autocommit=True)
            self.own = {self._connection.info.backend_pid}
        self._ending.callback(self._connection.close)

    def _make_bare(self) -> None:
        """A database of the same kind, with the same durability, for a bare loop or server to compare with."""
        if self.shape == "embedded":
            self.bare_owner = self.bare_database = f"sqlite:{make_folder('bench', durable=True) / 'bare.db'}"
        else:
            made = self._postgres.create_database("bare")
            self.bare_owner, self.bare_database = made.owner_url, made.app_url
