"""Fifty equal requests at once with one Idempotency-Key, while the processes that answer them are killed: one of it.

Everybody asks again until there is a 2xx: after a 409 when Retry-After is over, after a connection that broke at once.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from app.core.runtime import Runtime
from app.models import Delivery, Event, IdempotencyKey
from app.tenancy import Purpose, system
from tests.conftest import KEY
from tests.core.helpers import rows_of
from tests.processes import Processes, children, processes

pytestmark = pytest.mark.timeout(300)  # whole processes start and stop, several times
CALLERS = 50
KILLS = 4
PATIENCE = 120.0
SEED = 20261120
AWAY = ("unavailable", "overloaded", "database_unavailable")  # a machine that stands still keeps the database away too

EVENT = {"eventType": "order.created", "data": {"orderId": "A-1001"}, "recipients": ["ada"]}
MAIL = {"to": ["ada@example.com", "bob@example.com"], "subject": "Once", "text": "Words"}


@dataclass
class Answers:
    """What all callers heard: {status: how often}, the 2xx bodies, how often one was a replay."""

    statuses: Counter[int] = field(default_factory=Counter)
    codes: set[str] = field(default_factory=set)
    bodies: list[str] = field(default_factory=list)
    replays: int = 0
    broken: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def hear(self, status: int, headers: Any, body: str) -> bool:
        """Take an answer down. True: it is the last one."""
        with self.lock:
            self.statuses[status] += 1
            if status < 300:
                self.bodies.append(json.dumps(json.loads(body), sort_keys=True))  # jsonb keeps no order of keys
                self.replays += "Idempotency-Replayed" in headers
            else:
                self.codes.add(json.loads(body)["code"])
        return status < 300


@pytest.fixture
def running(shape: str, tmp_path: Path, shape_settings: dict[str, Any], tenant_id: str) -> Iterator[Processes]:
    many = "1000000 per minute"
    limits = {"RATE_LIMIT_EVENTS": many, "RATE_LIMIT_SEND": many}
    with processes(shape, tmp_path, shape_settings, **limits) as made:
        yield made


def ask(port: int, path: str, body: Any, key: str, answers: Answers, over: float) -> None:
    """One caller, who asks again until there is a 2xx."""
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json", "Idempotency-Key": key}
    while time.monotonic() < over:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        wait = 0.05
        try:
            connection.request("POST", path, json.dumps(body), headers)
            answer = connection.getresponse()
            if answers.hear(answer.status, answer.headers, answer.read().decode()):
                return
            wait = float(answer.headers.get("Retry-After") or wait)
        except (OSError, http.client.HTTPException):
            answers.broken += 1
        finally:
            connection.close()
        time.sleep(wait)


def kill_some(running: Processes, chance: random.Random, over: threading.Event) -> int:
    """Kill -9 what answers requests, a few times. Returns how many processes died of it."""
    killed = 0
    for _ in range(KILLS):
        if over.wait(chance.uniform(0.02, 0.3)):
            break
        if running.shape == "embedded":
            running.web.kill()
            running.web.start(wait=False)
            killed += 1
            continue
        with suppress(ProcessLookupError, IndexError):
            os.kill(chance.choice(children(running.web.pid)), signal.SIGKILL)  # its parent makes another
            killed += 1
    return killed


def let_a_minute_pass(runtime: Runtime) -> None:
    """The leases of killed processes end, and those of living ones as well."""
    with runtime.db.transaction(system(Purpose.SWEEP)) as session:
        session.execute(text("UPDATE idempotency_keys SET lease_until = created_at WHERE status IS NULL"))


def storm(running: Processes, runtime: Runtime, path: str, body: Any, key: str) -> Answers:
    """Everybody asks at once while processes are killed."""
    answers, over, end = Answers(), threading.Event(), time.monotonic() + PATIENCE
    chance = random.Random(f"{SEED} {path} {key}")
    with ThreadPoolExecutor(CALLERS) as pool:
        callers = [pool.submit(ask, running.web.port, path, body, key, answers, end) for _ in range(CALLERS)]
        # In this thread: processes die with the thread that started them.
        killed = kill_some(running, chance, over)
        while wait(callers, timeout=0.5).not_done:
            let_a_minute_pass(runtime)
        for caller in callers:
            caller.result()
    print(f"seed {SEED}: {killed} killed, {answers.broken} broken, answers {dict(answers.statuses)}")
    assert killed
    return answers


@pytest.mark.parametrize(
    ("path", "body", "made"),
    [
        ("/api/events", EVENT, lambda runtime, owner: rows_of(runtime, owner, Event)),
        ("/api/send/email", MAIL, lambda runtime, owner: rows_of(runtime, owner, Delivery, trigger="direct")),
    ],
)
def test_fifty_equal_posts_at_once_are_one_whatever_is_killed(
    running: Processes,
    runtime: Runtime,
    tenant_id: str,
    path: str,
    body: dict[str, Any],
    made: Callable[[Runtime, str], list[Any]],
) -> None:
    each = len(body.get("to", "1"))
    keys = ["storm", "another storm"]
    for count, key in enumerate(keys, start=1):
        answers = storm(running, runtime, path, body, key)
        # every caller has its answer, and it is the same one
        assert len(answers.bodies) == CALLERS, answers
        assert len(set(answers.bodies)) == 1, set(answers.bodies)
        assert set(answers.statuses) <= {202, 409, 503}, answers.statuses
        assert answers.codes <= {"idempotency_in_progress", *AWAY}, answers.codes
        assert answers.replays >= CALLERS - 1
        # and it was done once
        rows = made(runtime, tenant_id)
        assert len(rows) == count * each
        assert all(row.id in answers.bodies[0] for row in rows[-each:])
    finished = rows_of(runtime, tenant_id, IdempotencyKey)
    assert {row.key: row.status for row in finished} == dict.fromkeys(keys, 202)
