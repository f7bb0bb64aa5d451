"""Admission: what waits too long already is not added to, the least urgent first, and nobody is refused by mistake."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from app.config import Settings
from app.core import backlog
from app.core.admission import Admission, OverloadedError
from app.core.outbox import Lane
from app.core.pipeline import EventInput
from app.core.runtime import Runtime
from app.db import Purpose, system
from tests.conftest import wait_until
from tests.core.helpers import accept

LANES = tuple(Lane)


@pytest.fixture
def make_settings() -> Callable[..., Settings]:
    return lambda **values: Settings(**values, max_backlog=10, max_backlog_transactional=20)


def wait(runtime: Runtime, tenant_id: str, lane: Lane, count: int) -> None:
    """So many events wait in a lane, and the sweep has counted."""
    accept(runtime, tenant_id, *[EventInput("a.b", lane=lane)] * count)
    measure(runtime)


def measure(runtime: Runtime) -> None:
    with runtime.db.transaction(system(Purpose.SWEEP)) as session:
        backlog.measure(session, runtime.clock.now())


def age(runtime: Runtime, seconds: float) -> None:
    """The last measurement was made so long ago."""
    then = runtime.clock.now() - timedelta(seconds=seconds)
    with runtime.db.transaction(system(Purpose.SWEEP)) as session:
        value = {"then": then if not runtime.settings.embedded else then.isoformat().replace("+00:00", "Z")}
        session.execute(text("UPDATE service_state SET measured_at = :then"), value)


def refused(runtime: Runtime) -> list[Lane]:
    """The lanes that are closed, as one sees it who looks now."""
    found = []
    for lane in LANES:
        try:
            Admission(runtime, every_seconds=0).judge([lane])
        except OverloadedError as error:
            assert error.retry_after > 0
            found.append(lane)
    return found


def test_a_lane_is_closed_by_what_waits_in_it_and_before_it(runtime: Runtime, tenant_id: str) -> None:
    assert refused(runtime) == []
    # given as much bulk as may wait: it closes its own lane and no other
    wait(runtime, tenant_id, Lane.BULK, 10)
    assert refused(runtime) == [Lane.BULK]
    # when there is as much normal work, then all is closed but what is transactional
    wait(runtime, tenant_id, Lane.NORMAL, 10)
    assert refused(runtime) == [Lane.NORMAL, Lane.BULK]
    # and that has a limit of its own
    wait(runtime, tenant_id, Lane.TRANSACTIONAL, 19)
    assert refused(runtime) == [Lane.NORMAL, Lane.BULK]
    wait(runtime, tenant_id, Lane.TRANSACTIONAL, 1)
    assert refused(runtime) == list(LANES)


def test_urgent_work_closes_the_lanes_behind_it(runtime: Runtime, tenant_id: str) -> None:
    wait(runtime, tenant_id, Lane.TRANSACTIONAL, 10)
    assert refused(runtime) == [Lane.NORMAL, Lane.BULK]


def test_several_lanes_at_once_are_taken_or_refused_together(runtime: Runtime, tenant_id: str) -> None:
    wait(runtime, tenant_id, Lane.BULK, 10)
    judge = Admission(runtime).judge
    judge([Lane.NORMAL, Lane.TRANSACTIONAL])
    judge([])
    with pytest.raises(OverloadedError) as caught:
        judge([Lane.TRANSACTIONAL, Lane.BULK])
    assert "bulk" in caught.value.detail


def test_what_waits_for_a_later_try_closes_nothing(runtime: Runtime, tenant_id: str) -> None:
    accept(runtime, tenant_id, *[EventInput("a.b")] * 10)
    later = "'2999-01-01T00:00:00.000000Z'"
    with runtime.db.transaction(system(Purpose.SWEEP)) as session:
        session.execute(text(f"UPDATE event_logs SET next_attempt_at = {later}"))
    measure(runtime)
    assert refused(runtime) == []


def test_the_doors_open_when_the_work_is_done(runtime: Runtime, tenant_id: str) -> None:
    wait(runtime, tenant_id, Lane.NORMAL, 10)
    assert refused(runtime) == [Lane.NORMAL, Lane.BULK]
    with runtime.db.transaction(system(Purpose.SWEEP)) as session:
        session.execute(text("UPDATE event_logs SET status = 'planned'"))
    measure(runtime)
    assert refused(runtime) == []


def test_without_a_fresh_figure_all_are_let_in(runtime: Runtime, tenant_id: str) -> None:
    # given a full lane that was counted a minute ago, and by nobody since
    wait(runtime, tenant_id, Lane.NORMAL, 10)
    age(runtime, 50)
    assert refused(runtime) == [Lane.NORMAL, Lane.BULK]
    age(runtime, 70)
    assert refused(runtime) == []


def test_the_figure_is_read_once_for_all_within_a_second(runtime: Runtime, tenant_id: str) -> None:
    admission = Admission(runtime, every_seconds=3600)
    admission.judge(LANES)
    wait(runtime, tenant_id, Lane.NORMAL, 10)
    admission.judge(LANES)


def test_while_the_database_cannot_be_read_nobody_is_let_in(runtime: Runtime, owner: Any) -> None:
    admission = Admission(runtime, every_seconds=0)
    owner("ALTER TABLE service_state RENAME TO away")
    for lane in LANES:
        with pytest.raises(OverloadedError):
            admission.judge([lane])
    owner("ALTER TABLE away RENAME TO service_state")
    admission.judge(LANES)


def test_while_every_connection_is_in_use_nobody_is_let_in_and_nobody_waits(runtime: Runtime) -> None:
    admission = Admission(runtime, every_seconds=0)
    taken = []
    while not runtime.db.exhausted:
        taken.append(runtime.db.engine.connect())
    with pytest.raises(OverloadedError):
        admission.judge([Lane.TRANSACTIONAL])
    for connection in taken:
        connection.close()
    admission.judge(LANES)


@pytest.mark.parametrize("shape", ["production"])
def test_a_reading_that_lasts_keeps_one_thread_and_refuses_the_others(runtime: Runtime, owner: Any) -> None:
    # given a database that does not come to an end with the question
    admission = Admission(runtime, every_seconds=0, slow_seconds=0.2)

    def is_refused() -> bool:
        try:
            admission.judge([Lane.TRANSACTIONAL])
        except OverloadedError:
            return True
        return False

    held = owner("LOCK TABLE service_state IN ACCESS EXCLUSIVE MODE", hold=True)
    first = threading.Thread(target=is_refused)
    first.start()
    # when others come meanwhile, then they are refused without waiting for it, until it answers
    wait_until(is_refused)
    assert first.is_alive()
    held.rollback()
    first.join()
    held.close()
    wait_until(lambda: not is_refused())


@pytest.fixture
def owner(shape: str, runtime: Runtime, request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Says something to the database as its owner; with `hold` in a transaction that stays open, and is returned."""
    url = runtime.db.url
    if shape == "production":
        server = request.getfixturevalue("postgres")
        url = server.url_for("postgres", url.database).replace("postgresql://", "postgresql+psycopg://")
    engine = create_engine(url)

    def say(words: str, *, hold: bool = False) -> Any:
        connection = engine.connect()
        connection.exec_driver_sql(words)
        if hold:
            return connection
        connection.commit()
        connection.close()
        return None

    yield say
    engine.dispose()
