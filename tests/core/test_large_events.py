"""An event to many, in real processes: its planner is killed in the middle, and nobody is left out or doubled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text

from app.core.runtime import Runtime
from app.models import Delivery
from app.tenancy import Purpose, system
from tests.conftest import wait_until
from tests.processes import processes

pytestmark = pytest.mark.timeout(300)  # whole processes start and stop, several times
PEOPLE = 20_000
_UNFINISHED = (
    "SELECT EXISTS (SELECT 1 FROM event_logs WHERE status = 'received')"
    " OR EXISTS (SELECT 1 FROM event_logs WHERE status = 'planning')"
)


def let_the_leases_end(runtime: Runtime) -> None:
    """What the dead held is free; embedded, the next start sees to that itself."""
    with runtime.db.transaction(system(Purpose.SWEEP)) as session:
        session.execute(text("UPDATE event_logs SET lease_until = created_at WHERE status = 'planning'"))


def ask(runtime: Runtime, question: str) -> Any:
    with runtime.db.transaction(system(Purpose.SWEEP), read_only=True) as session:
        return session.execute(text(question)).scalar()


def count(runtime: Runtime) -> tuple[int, int]:
    with runtime.db.transaction(system(Purpose.SWEEP), read_only=True) as session:
        found = session.execute(select(func.count(), func.count(Delivery.user_id.distinct()))).one()
        return found[0], found[1]


def test_a_planner_killed_in_the_middle_of_a_large_event_leaves_nobody_out_and_doubles_nobody(
    runtime: Runtime, tenant_id: str, shape: str, shape_settings: dict[str, Any], tmp_path: Path
) -> None:
    with processes(shape, tmp_path, shape_settings) as service:
        # given a list, a rule for the bell, and a test key's event to the list (planned and not sent), half-way
        call = service.web.call
        users = [f"user-{number:06}" for number in range(PEOPLE)]
        for start in range(0, PEOPLE, 10_000):
            call("PUT", "/api/topics/all/recipients", {"userIds": users[start : start + 10_000]})
        action = {"channel": "in_app", "template": "user.registered"}
        call("POST", "/api/rules", {"eventType": "news", "category": "news", "actions": [action]})
        service.web.key = call("POST", "/api/api-keys", {"name": "trying", "kind": "test"})["key"]
        event = call("POST", "/api/events", {"eventType": "news", "topics": ["all"], "priority": "bulk"})["id"]

        # when its processes are killed while it is in the middle, and others go on
        come = wait_until(lambda: ask(runtime, "SELECT max(cursor) FROM event_logs"), 60)
        service.worker.kill()
        let_the_leases_end(runtime)
        service.start()
        wait_until(lambda: not ask(runtime, _UNFINISHED), 90)
        done = call("GET", f"/api/events/{event}")["progress"]
    assert come < PEOPLE
    # then everybody has one delivery
    assert (done["finished"], done["people"]) == (True, PEOPLE)
    assert (done["planned"], done["skipped"]) == (PEOPLE, PEOPLE)
    assert count(runtime) == (PEOPLE, PEOPLE)
