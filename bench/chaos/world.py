"""The servers and processes of a chaos run, and how each is killed, cut off and started again.

Everything is started from the main thread, ends with it, and lives in folders of its own.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import sys
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
import redis as redis_client

from app.running.worker import SUPERVISOR
from bench import cpu
from bench.chaos.control import Control
from bench.chaos.receiver_http import ACCOUNT, TOKEN
from bench.chaos.worker import STARTED, TIMEOUT_SECONDS
from tests.servers.postgres import PostgresServer, start_postgres
from tests.servers.process import ServerProcess, free_port, make_folder
from tests.servers.redis import RedisServer, start_redis

KEY = "tdg_live_" + "c" * 40
RECEIVERS = ("smtp", "http", "twilio")
_TIDINGS = str(Path(sys.executable).with_name("tidings"))
_ROOT = Path(__file__).resolve().parents[2]
_READY_SECONDS = 120.0  # on a machine that has a lot else to do
_UNLIMITED = "999999999 per minute"
_WITH_ITS_PID = ("/bin/sh", "-c", 'exec "$@" "$$"', "sh")  # runs what follows, with its own process id at the end
_POSTGRES_ENV = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}


class World:
    """PostgreSQL, Redis, three receivers, two web and two worker processes; durable settings. See the module."""

    def __init__(self, sabotage: str = "none", keep: Path | None = None) -> None:
        self.folder = make_folder("chaos", durable=True)
        self.control = Control(self.folder)
        self.port = free_port()
        self.receiver_ports = {kind: free_port() for kind in RECEIVERS}
        self._worker = ("bench.chaos.worker", str(self.folder), sabotage)
        self._ending = contextlib.ExitStack()
        self._kept = keep
        self.postgres: PostgresServer
        self.redis: RedisServer
        self.processes: dict[str, ServerProcess] = {}
        self._down: set[str] = set()  # of `web` and `worker`, what was killed whole and is to stay so for a while

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
    def admin_url(self) -> str:
        """The database as its superuser sees it."""
        return self.postgres.url_for("postgres", "tidings")

    def tree(self, name: str) -> list[int]:
        """The process that watches over `web` or `worker`, and those below it."""
        return cpu.tree(self.processes[name].pid)

    def kill(self, pids: list[int]) -> None:
        """End processes as the kernel does when memory is short. Who has gone already is no fault."""
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def run(self, name: str) -> None:
        """Start `web` or `worker`, for the first time or again."""
        command = {
            "web": [_TIDINGS, "web"],
            "worker": [*_WITH_ITS_PID, sys.executable, str(SUPERVISOR), "2", sys.executable, "-m", *self._worker],
        }[name]
        if popen := self.processes[name].popen:
            popen.wait()
        self._down.discard(name)
        self.processes[name].start(command, self._env)

    def kill_whole(self, name: str) -> list[int]:
        """Kill `web` or `worker` with all its processes; it is down until it is run again. Answers their ids."""
        self._down.add(name)
        pids = self.tree(name)
        self.kill(pids)
        return pids

    def keep_running(self) -> None:
        """Start again what has ended, as a service manager does: web does not start while PostgreSQL is away."""
        for name in ("web", "worker"):
            popen = self.processes[name].popen
            if name not in self._down and popen and popen.poll() is not None:
                self.run(name)

    def stop_postgres(self, how: signal.Signals) -> None:
        """Stop it at once (SIGQUIT) or in order, without waiting for its clients (SIGINT)."""
        process = self.postgres.process
        if process.popen and process.popen.poll() is None:
            process.popen.send_signal(how)
            process.popen.wait()

    def start_postgres(self) -> None:
        """Start it again where it was, and wait until it answers."""
        process = self.postgres.process
        if process.popen:
            process.start(_command(process), _POSTGRES_ENV, signal.SIGQUIT)
        process.wait_until(self._postgres_answers, _READY_SECONDS)

    def stop_redis(self) -> None:
        """Kill it."""
        process = self.redis.process
        if process.popen and process.popen.poll() is None:
            process.popen.kill()
            process.popen.wait()

    def start_redis(self) -> None:
        """Start it again where it was, and wait until it answers."""
        process = self.redis.process
        if process.popen:
            process.start(_command(process))
        process.wait_until(self._redis_answers, _READY_SECONDS)

    def wait_until_ready(self) -> None:
        """Until a web process says so."""
        url = f"http://127.0.0.1:{self.port}/health/ready"

        def is_ready() -> bool:
            try:
                with urllib.request.urlopen(url, timeout=5) as answer:
                    return bool(answer.status == 200)
            except (urllib.error.HTTPError, http.client.HTTPException):
                return False

        self.processes["web"].wait_until(is_ready, _READY_SECONDS)

    def _keep(self, folder: Path) -> None:
        """Copy what was noted and logged."""
        for path in self.folder.iterdir():
            if path.is_file():
                shutil.copy(path, folder / path.name)
        for name, process in self.processes.items():
            (folder / f"log-{name}").write_text(process.log())

    def _start(self) -> None:
        self.postgres = start_postgres(durable=True)
        self._ending.callback(self.postgres.stop)
        self.redis = start_redis(durable=True)
        self._ending.callback(self.redis.stop)
        database = self.postgres.create_database("tidings")
        self._env = self._environment(database.app_url, database.owner_url)
        for kind in RECEIVERS:
            command = ["-m", "bench.chaos.receivers", kind, str(self.receiver_ports[kind]), str(self.folder)]
            self._add(kind).start([sys.executable, *command], self._env)
        migration = ServerProcess("migrate", make_folder("chaos"))
        self._ending.callback(migration.stop)
        migration.run([_TIDINGS, "migrate"], self._env)
        for name in ("web", "worker"):
            self._add(name)
            self.run(name)
            self._ending.callback(self._end, name)
        if self._kept:
            self._kept.mkdir(parents=True, exist_ok=True)
            self._ending.callback(self._keep, self._kept)
        self.wait_until_ready()
        self.processes["worker"].wait_until((self.folder / STARTED).exists, _READY_SECONDS)

    def _end(self, name: str) -> None:
        self.kill(self.tree(name))

    def _add(self, name: str) -> ServerProcess:
        process = self.processes[name] = ServerProcess(name, make_folder("chaos"))
        self._ending.callback(process.stop, signal.SIGKILL)
        return process

    def _environment(self, database_url: str, owner_url: str) -> dict[str, str]:
        ports, timeout = self.receiver_ports, str(int(TIMEOUT_SECONDS * 1000))
        return {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "PYTHONPATH": str(_ROOT),
            "PORT": str(self.port),
            "PUBLIC_URL": f"http://127.0.0.1:{self.port}",
            "DATA_DIR": str(self.folder / "var"),
            "PROMETHEUS_MULTIPROC_DIR": str(self.folder / "metrics"),
            "DATABASE_URL": database_url,
            "MIGRATION_DATABASE_URL": owner_url,
            "REDIS_URL": self.redis.url,
            "SECRET_KEY": "a secret key for chaos only, 40 characters",
            "BOOTSTRAP_API_KEY": KEY,
            "LOG_LEVEL": "warning",
            "SWEEP_SECONDS": "1",
            "WEBHOOK_ALLOWED_CIDRS": "127.0.0.0/8",
            "EMAIL_HOST": "127.0.0.1",
            "EMAIL_PORT": str(ports["smtp"]),
            "TWILIO_ACCOUNT_SID": ACCOUNT,
            "TWILIO_AUTH_TOKEN": TOKEN,
            "TWILIO_PHONE_NUMBER": "+15005550006",
            "TWILIO_API_URL": f"http://127.0.0.1:{ports['twilio']}",
            "EMAIL_TIMEOUT": timeout,
            "SMS_TIMEOUT": timeout,
            "WEBHOOK_TIMEOUT": timeout,
        } | {f"RATE_LIMIT_{kind}": _UNLIMITED for kind in ("EVENTS", "WRITE", "SEND", "READ", "PUBLIC", "CALLBACKS")}

    def _postgres_answers(self) -> bool:
        try:
            psycopg.connect(self.postgres.admin_url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _redis_answers(self) -> bool:
        try:
            with redis_client.Redis.from_url(self.redis.url, socket_timeout=2) as client:
                return bool(client.ping())
        except redis_client.RedisError:
            return False


def _command(process: ServerProcess) -> list[str]:
    """How a server was started."""
    popen = process.popen
    return [str(word) for word in popen.args] if popen and isinstance(popen.args, list) else []
