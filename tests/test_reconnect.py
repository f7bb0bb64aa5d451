"""PostgreSQL and Redis restart under running web and worker processes: all of it goes on by itself, nothing is lost."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
import redis
from sqlalchemy import text

from app import make_runtime, schema
from app.config import Settings
from app.core import keys
from app.core.runtime import Runtime
from app.models import Delivery, Event
from app.tenancy import Purpose, system
from tests.conftest import KEY, wait_until
from tests.core.helpers import add_endpoint, rows_of
from tests.processes import Processes, children, processes
from tests.servers.http import HttpReceiver
from tests.servers.postgres import start_postgres
from tests.servers.process import ServerProcess
from tests.servers.redis import start_redis

pytestmark = pytest.mark.timeout(300)  # whole processes start and stop, several times
PATIENCE = 90.0
AWAY_SECONDS = 1.5
IN_A_ROW = 400  # answers, over both web processes
EVENT = {"eventType": "seen.one", "data": {}}


class World:
    """Servers of our own, which may be restarted, and the service on them.

    `patience_ms`: how long web processes wait for PostgreSQL; at half of that it counts as slow.
    """

    def __init__(self, folder: Path, stack: ExitStack, patience_ms: int) -> None:
        self.postgres, self.redis = start_postgres(durable=True), start_redis()
        stack.callback(self.postgres.stop)
        stack.callback(self.redis.stop)
        made = self.postgres.create_database("reconnect")
        schema.upgrade(made.owner_url, made.app_url)
        values = {"data_dir": folder / "var", "secret_key": "a secret key for tests only, 40 characters"}
        values |= {"database_url": made.app_url, "redis_url": self.redis.url}
        self.runtime: Runtime = make_runtime(Settings(**values))
        stack.callback(self.runtime.db.close)
        with self.runtime.db.transaction(system(Purpose.MIGRATE)) as session:
            owner, _ = keys.bootstrap(session, self.runtime.vault, self.runtime.clock, api_key_secret=KEY)
        self.tenant_id = owner.id
        self.receiver = stack.enter_context(HttpReceiver())
        add_endpoint(self.runtime, owner.id, self.receiver.url("/hook"), ("seen.*",))
        many = "1000000 per minute"
        limits = {"RATE_LIMIT_EVENTS": many, "MAX_DATABASE_DELAY": str(patience_ms // 2)}
        limits["DATABASE_TIMEOUT"] = str(patience_ms)
        self.processes: Processes = stack.enter_context(processes("production", folder, values, **limits))

    def postgres_answers(self) -> bool:
        try:
            psycopg.connect(self.postgres.admin_url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def redis_answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.redis.url, socket_timeout=2) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def ready(self) -> bool:
        """Whether the web process says that it can work, with all its parts."""
        try:
            return set(self.parts().values()) == {"ok"}
        except (OSError, http.client.HTTPException):
            return False

    def parts(self) -> dict[str, str]:
        """What the web process says of each part that it works with."""
        connection = http.client.HTTPConnection("127.0.0.1", self.processes.web.port, timeout=30)
        try:
            connection.request("GET", "/health/ready")
            return dict(json.loads(connection.getresponse().read())["parts"])
        finally:
            connection.close()

    def freeze(self) -> None:
        """Stop every process of PostgreSQL where it stands. Its sockets stay open."""
        parent = self.postgres.process.pid
        stop([parent])  # first: then it starts no other
        stop(children(parent))

    def thaw(self) -> None:
        """Let them go on; the parent last, so that meanwhile none of them goes."""
        parent = self.postgres.process.pid
        for pid in (*children(parent), parent):
            os.kill(pid, signal.SIGCONT)

    def lives(self) -> bool:
        """Whether the web process says that it answers."""
        with urllib.request.urlopen(f"{self.processes.web.url}/health/live", timeout=30) as answer:
            return bool(answer.status == 200)

    def post(self) -> tuple[int, str]:
        """One event: (status, its id or the problem's code); (0, "") when there was no answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.processes.web.port, timeout=30)
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        try:
            connection.request("POST", "/api/events", json.dumps(EVENT), headers)
            answer = connection.getresponse()
            said = json.loads(answer.read())
            return answer.status, str(said.get("id") or said.get("code"))
        except (OSError, http.client.HTTPException):
            return 0, ""
        finally:
            connection.close()


def stop(pids: Sequence[int]) -> None:
    """Have processes stand still; returns when they do."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: all(stands(pid) for pid in pids), PATIENCE)


def stands(pid: int) -> bool:
    """Whether a process is stopped, or has ended and is not collected yet."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "TZ"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(tmp_path_factory.mktemp("reconnect"), stack, patience_ms=20_000)


@pytest.fixture
def hasty_world(tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(tmp_path, stack, patience_ms=4_000)


def restart(server: ServerProcess, how: signal.Signals, answers: Callable[[], bool], death_signal: int) -> None:
    """Stop a server, leave it away for a moment, and start it on the same data and port."""
    process = server.popen
    assert process is not None
    process.send_signal(how)
    process.wait()
    time.sleep(AWAY_SECONDS)  # the outage itself
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    server.start(process.args, env=environment, death_signal=death_signal)  # type: ignore[arg-type]
    wait_until(answers, PATIENCE)


def let_leases_end(world: World) -> None:
    """The minutes pass for which a worker whose transaction broke off holds its events."""
    with world.runtime.db.transaction(system(Purpose.SWEEP)) as session:
        session.execute(text("UPDATE event_logs SET lease_until = created_at WHERE status = 'planning'"))


FAULTS: dict[str, Callable[[World], None]] = {
    "PostgreSQL, fast": lambda world: restart(
        world.postgres.process, signal.SIGINT, world.postgres_answers, signal.SIGQUIT
    ),
    "PostgreSQL, immediate": lambda world: restart(
        world.postgres.process, signal.SIGQUIT, world.postgres_answers, signal.SIGQUIT
    ),
    "Redis": lambda world: restart(world.redis.process, signal.SIGKILL, world.redis_answers, signal.SIGKILL),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_it_goes_on_by_itself_and_nothing_is_lost(world: World, fault: str) -> None:
    answers: list[tuple[float, int, str]] = []  # when it was posted, its status, the event's id
    over = threading.Event()

    def go_on() -> None:
        while not over.is_set():
            began = time.monotonic()
            answers.append((began, *world.post()))

    def all_is_well(since: float) -> bool:
        found = [status for began, status, _ in answers if began > since]
        return len(found) >= IN_A_ROW and set(found[-IN_A_ROW:]) == {202}

    with ThreadPoolExecutor(4) as pool:
        # given clients that post all the time
        posting = [pool.submit(go_on) for _ in range(4)]
        try:
            wait_until(lambda: len(answers) > 20, PATIENCE)
            # when a server goes and comes back
            FAULTS[fault](world)
            wait_until(world.ready, PATIENCE)
            back = time.monotonic()
            # then, as soon as each web process has seen it for itself, nothing that is posted fails any more
            wait_until(lambda: all_is_well(back), PATIENCE)
        finally:
            over.set()
        for one in posting:
            one.result()
    # and while it was away, everybody had an answer, without Redis even the right one
    assert {status for _, status, _ in answers} <= ({202} if fault == "Redis" else {202, 503})
    accepted = {made for _, status, made in answers if status == 202}
    # and all that was accepted is planned and delivered, once

    def delivered() -> bool:
        made = rows_of(world.runtime, world.tenant_id, Delivery)
        return {row.status for row in made} == {"delivered"} and {row.event_id for row in made} >= accepted

    let_leases_end(world)
    wait_until(lambda: {row.status for row in rows_of(world.runtime, world.tenant_id, Event)} == {"planned"}, PATIENCE)
    wait_until(delivered, PATIENCE)
    came = Counter(one.headers["webhook-id"] for one in world.receiver.ledger)
    assert set(came.values()) == {1}
    assert set(came) == {row.id for row in rows_of(world.runtime, world.tenant_id, Delivery)}


def test_a_database_that_hangs_keeps_nobody_waiting(hasty_world: World) -> None:
    world = hasty_world
    # given more clients than request threads, all known, on connections that are open
    answers: list[tuple[float, int]] = []
    over = threading.Event()

    def go_on() -> None:
        while not over.is_set():
            began = time.monotonic()
            answers.append((began, world.post()[0]))

    with ThreadPoolExecutor(20) as pool:
        posting = [pool.submit(go_on) for _ in range(20)]
        try:
            wait_until(lambda: len(answers) > 200, PATIENCE)
            try:
                # when PostgreSQL stops where it stands, and closes nothing
                world.freeze()
                frozen = time.monotonic()
                # then everybody is told so, the web process lives, and says what it lacks
                wait_until(lambda: len([1 for began, _ in answers if began > frozen]) > 200, PATIENCE)
                assert {status for began, status in answers if began > frozen} == {503}
                assert world.lives()
                assert world.parts()["database"] == "unreachable"
            finally:
                world.thaw()
            # and when it goes on, so does the service
            wait_until(lambda: {status for _, status in answers[-IN_A_ROW:]} == {202}, PATIENCE)
        finally:
            over.set()
        for one in posting:
            one.result()
